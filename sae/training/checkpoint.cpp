#include "sae/training/checkpoint.h"

#include <ATen/Functions.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>
#include <utility>

#include "core/base/error.h"
#include "core/formats/safetensors.h"
#include "core/io/digest.h"

namespace vyx::sae {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kFormat = 2;
constexpr size_t kKept = 2;
constexpr const char* kLatest = "LATEST";

using NamedTensor = std::pair<std::string, at::Tensor>;

std::vector<NamedTensor> tensors_of(const TrainState& state) {
  std::vector<NamedTensor> tensors;
  const auto add = [&](const char* prefix, const Parameters& parameters) {
    parameters.visit([&](const char* name, const at::Tensor& tensor) {
      tensors.emplace_back(fmt::format("{}{}", prefix, name), tensor);
    });
  };
  add("", state.sae.weights);
  add("first.", state.adam.first);
  add("second.", state.adam.second);
  tensors.emplace_back("idle", state.idle);
  tensors.emplace_back("firings", state.firings);
  return tensors;
}

std::span<const std::byte> bytes_of(const at::Tensor& tensor) {
  return {static_cast<const std::byte*>(tensor.data_ptr()), tensor.nbytes()};
}

void require_finite(const TrainState& state) {
  for (const auto& [name, tensor] : tensors_of(state)) {
    if (tensor.scalar_type() != at::kFloat) continue;
    const std::span<const float> values(tensor.const_data_ptr<float>(),
                                        static_cast<size_t>(tensor.numel()));
    if (!std::all_of(values.begin(), values.end(),
                     [](float value) { return std::isfinite(value); }))
      throw Diverged(fmt::format("step {}: {} holds NaN or infinity", state.step, name));
  }
}

Json json_of(const TrainState& state) {
  const IntervalSums& sums = state.sums;
  return {{"step", state.step},
          {"adam_steps", state.adam.steps},
          {"scales", state.sae.config.scales},
          {"target_scales", state.sae.config.target_scales},
          {"topk_threshold", state.sae.topk_threshold},
          {"sums",
           {{"steps", sums.steps},
            {"loss", sums.loss},
            {"reconstruction", sums.reconstruction},
            {"variance", sums.variance},
            {"sparsity", sums.sparsity},
            {"auxiliary", sums.auxiliary},
            {"l0", sums.l0},
            {"gradient_norm", sums.gradient_norm}}}};
}

std::vector<double> scales_in(const Json& json, const char* key, const std::string& source) {
  const Json list = json.value(key, Json());
  std::vector<double> scales;
  if (!list.is_array())
    fail("{}: \"{}\": found {}, expected a list of numbers", source, key, list.type_name());
  for (const Json& number : list) scales.push_back(json_number({{key, number}}, key, source));
  return scales;
}

TrainState state_from_json(const Json& json, const std::string& source) {
  constexpr int64_t kMax = int64_t{1} << 53;
  TrainState state;
  state.step = static_cast<uint64_t>(json_integer(json, "step", source, 0, kMax));
  state.adam.steps = json_integer(json, "adam_steps", source, 0, kMax);
  state.sae.config.scales = scales_in(json, "scales", source);
  state.sae.config.target_scales = scales_in(json, "target_scales", source);
  state.sae.topk_threshold = json_number(json, "topk_threshold", source);
  const Json sums = json.value("sums", Json());
  state.sums = {json_integer(sums, "steps", source, 0, kMax),
                json_number(sums, "loss", source),
                json_number(sums, "reconstruction", source),
                json_number(sums, "variance", source),
                json_number(sums, "sparsity", source),
                json_number(sums, "auxiliary", source),
                json_number(sums, "l0", source),
                json_number(sums, "gradient_norm", source)};
  return state;
}

std::string file_name(uint64_t step) {
  return fmt::format("step-{:09}.safetensors", step);
}

bool is_checkpoint_name(const std::string& name) {
  return name.starts_with("step-") && name.ends_with(".safetensors");
}

std::vector<fs::path> checkpoint_files(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder))
    if (is_checkpoint_name(entry.path().filename().string())) files.push_back(entry.path());
  return files;
}

std::string digest_of(const Json& json) {
  const std::string text = json.dump();
  return sha256(text);
}

void write_latest(const fs::path& folder, const std::vector<CheckpointEntry>& entries,
                  FileSystem& system) {
  Json list = Json::array();
  for (const auto& [step, file, bytes, digest] : entries)
    list.push_back({{"step", step}, {"file", file}, {"bytes", bytes}, {"sha256", digest}});
  AtomicFile latest(folder / kLatest, system);
  latest.write(
      Json{{"format", kFormat}, {"checkpoints", list}, {"sha256", digest_of(list)}}.dump(1) + "\n");
  latest.commit();
}

void remove_unlisted(const fs::path& folder, const std::vector<CheckpointEntry>& entries) {
  for (const fs::path& file : checkpoint_files(folder))
    if (std::none_of(entries.begin(), entries.end(),
                     [&](const auto& entry) { return entry.file == file.filename(); }))
      fs::remove(file);
}

void require_room(const fs::path& file, uint64_t bytes) {
  std::error_code error;
  const fs::space_info space = fs::space(file.parent_path(), error);
  const auto needed = static_cast<uint64_t>(1.1 * static_cast<double>(bytes));
  if (!error && space.available < needed)
    fail(
        "{}: cannot write (a checkpoint needs {} kB and the disk has {} kB free); nothing was "
        "changed, free some space and --resume",
        file.string(), needed / 1000 + 1, space.available / 1000);
}

at::Tensor read_tensor(const SafetensorsTensor& stored, const std::string& source) {
  const bool integer = stored.type == ElementType::i64;
  if (!integer && stored.type != ElementType::f32)
    fail("{}: {}: found {}, expected F32 or I64", source, stored.name, name_of(stored.type));
  at::Tensor tensor =
      at::empty(stored.shape, integer ? at::kLong : at::kFloat);  // the stored shape
  std::memcpy(tensor.mutable_data_ptr(), stored.data.data(), stored.data.size());
  return tensor;
}

// Those of the parameters that `file` has under `prefix`.
Parameters read_parameters(const Safetensors& file, const std::string& prefix) {
  Parameters parameters;
  for_each_parameter(
      [&](const ParameterKind& kind, at::Tensor& tensor) {
        if (const auto* stored = file.find(prefix + kind.name))
          tensor = read_tensor(*stored, file.source());
      },
      parameters);
  return parameters;
}

LoadedCheckpoint read_checkpoint(const fs::path& folder, const CheckpointEntry& entry) {
  const fs::path path = folder / entry.file;
  const SafetensorsFile file(path);
  if (file.bytes().size() != entry.bytes)
    fail("{}: found {} bytes, expected {}", path.string(), file.bytes().size(), entry.bytes);
  if (sha256(file.bytes()) != entry.sha256)
    fail("{}: its SHA-256 is not the one that was published", path.string());
  const auto metadata = [&](const char* key) {
    const auto found = file->metadata().find(key);
    if (found == file->metadata().end())
      fail("{}: found no metadata \"{}\", expected a checkpoint of vyx", path.string(), key);
    return parse_json(found->second, path.string());
  };
  if (metadata("format") != kFormat)
    fail("{}: found format {}, expected {}", path.string(), metadata("format").dump(), kFormat);
  LoadedCheckpoint loaded{
      state_from_json(metadata("state"), path.string()), metadata("run"), path, {}};
  loaded.state.sae.weights = read_parameters(*file, "");
  loaded.state.adam.first = read_parameters(*file, "first.");
  loaded.state.adam.second = read_parameters(*file, "second.");
  loaded.state.idle = read_tensor(file->tensor("idle"), path.string());
  loaded.state.firings = read_tensor(file->tensor("firings"), path.string());
  return loaded;
}

}  // namespace

void start_checkpoints(const fs::path& folder) {
  fs::create_directories(folder);
  FileSystem::real().fsync_directory(folder.has_parent_path() ? folder.parent_path().c_str() : ".");
  write_latest(folder, {}, FileSystem::real());
  remove_unlisted(folder, {});
}

std::optional<std::vector<CheckpointEntry>> list_checkpoints(const fs::path& folder) {
  const fs::path latest = folder / kLatest;
  if (!fs::exists(latest)) {
    if (fs::exists(folder) && !checkpoint_files(folder).empty())
      fail(
          "{}: found checkpoints but no {}, which lists those that are whole; start again with "
          "--overwrite",
          folder.string(), kLatest);
    return std::nullopt;
  }
  const std::string source = latest.string();
  const Json json = parse_json(read_text_file(latest), source);
  const int64_t format = json_integer(json, "format", source, 1, kFormat);
  if (format != kFormat)
    fail(
        "{}: found checkpoints of format {}, expected {}: an earlier vyx trained otherwise, and "
        "cannot be gone on from; start again with --overwrite",
        source, format, kFormat);
  const Json list = json.value("checkpoints", Json());
  if (!list.is_array())
    fail("{}: \"checkpoints\": found {}, expected a list", source, list.type_name());
  // Checked before anything is removed on its word.
  if (json_string(json, "sha256", source) != digest_of(list))
    fail("{}: the list is not the one that was published; the file is damaged", source);
  std::vector<CheckpointEntry> entries;
  for (const Json& entry : list)
    entries.push_back(
        {static_cast<uint64_t>(json_integer(entry, "step", source, 0, int64_t{1} << 53)),
         json_string(entry, "file", source),
         static_cast<uint64_t>(json_integer(entry, "bytes", source, 0, INT64_MAX)),
         json_string(entry, "sha256", source)});
  return entries;
}

void save_checkpoint(const fs::path& folder, const TrainState& state, const Json& run,
                     FileSystem& system) {
  require_finite(state);
  const fs::path path = folder / file_name(state.step);
  const auto tensors = tensors_of(state);
  std::vector<SafetensorsEntry> entries;
  uint64_t bytes = 0;
  for (const auto& [name, tensor] : tensors) {
    entries.push_back({name,
                       tensor.scalar_type() == at::kLong ? ElementType::i64 : ElementType::f32,
                       tensor.sizes().vec()});
    bytes += tensor.nbytes();
  }
  require_room(path, bytes);
  SafetensorsWriter writer(
      path, entries,
      {{"format", std::to_string(kFormat)}, {"state", json_of(state).dump()}, {"run", run.dump()}},
      system);
  for (const auto& [name, tensor] : tensors) writer.write(bytes_of(tensor));
  writer.commit();

  const MappedFile written(path);
  std::vector<CheckpointEntry> published =
      list_checkpoints(folder).value_or(std::vector<CheckpointEntry>{});
  std::erase_if(published, [&](const auto& entry) {
    return entry.step >= state.step;
  });  // of a step that was done again
  published.insert(published.begin(), {state.step, file_name(state.step), written.bytes().size(),
                                       sha256(written.bytes())});
  if (published.size() > kKept) published.resize(kKept);
  write_latest(folder, published, system);
  remove_unlisted(folder, published);
}

std::optional<LoadedCheckpoint> load_checkpoint(const fs::path& folder) {
  const auto published = list_checkpoints(folder);
  if (!published) return std::nullopt;
  remove_unlisted(folder, *published);  // whole, perhaps, but never published
  if (published->empty()) return std::nullopt;
  std::vector<std::string> skipped;
  for (const CheckpointEntry& entry : *published) {
    try {
      LoadedCheckpoint loaded = read_checkpoint(folder, entry);
      if (loaded.state.step != entry.step)
        fail("{}: found step {}, expected {}", loaded.file.string(), loaded.state.step, entry.step);
      loaded.skipped = std::move(skipped);
      return loaded;
    } catch (const Error& error) {
      skipped.emplace_back(error.what());
    }
  }
  fail("{}: no checkpoint can be read ({}); restore the file, or start again with --overwrite",
       folder.string(), skipped.front());
}

}  // namespace vyx::sae
