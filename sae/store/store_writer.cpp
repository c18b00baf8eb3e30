#include "sae/store/store_writer.h"

#include <ATen/Functions.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/base/error.h"
#include "core/formats/safetensors.h"
#include "core/formats/tensor_file.h"
#include "core/io/digest.h"
#include "core/io/files.h"

namespace vyx::sae {
namespace {

constexpr int64_t kChunkRows = 1024;  // widened to float32 at a time

void require_same(const Json& begun, const Json& now, const std::filesystem::path& folder) {
  if (const auto key = differing_key(begun, now))
    fail(
        "{}: was begun with {} = {}, found {} now; give the same options to go on with it, or "
        "another folder",
        folder.string(), *key, begun.value(*key, Json()).dump(), now.value(*key, Json()).dump());
}

std::vector<double> numbers(const Json& json, const std::string& source) {
  if (!json.is_array() ||
      !std::all_of(json.begin(), json.end(), [](const Json& item) { return item.is_number(); }))
    fail(
        "{}: found no list of numbers for a site's sums; the file is damaged: remove the folder "
        "and begin anew",
        source);
  return json.get<std::vector<double>>();
}

}  // namespace

void SiteSums::add(const at::Tensor& rows) {
  const int64_t width = rows.size(1);
  sum.resize(static_cast<size_t>(width));
  for (int64_t begin = 0; begin < rows.size(0); begin += kChunkRows) {
    const at::Tensor chunk = rows.narrow(0, begin, std::min(kChunkRows, rows.size(0) - begin))
                                 .to(at::kFloat)
                                 .contiguous();  // [chunk, width]
    const float* x = chunk.const_data_ptr<float>();
    for (int64_t row = 0; row < chunk.size(0); ++row, x += width) {
      double square = 0;
      for (int64_t j = 0; j < width; ++j) {
        sum[static_cast<size_t>(j)] += x[j];
        square += static_cast<double>(x[j]) * x[j];
      }
      norm += std::sqrt(square);
      norm_square += square;
      norm_max = std::max(norm_max, std::sqrt(square));
    }
  }
}

StoreWriter::StoreWriter(const std::filesystem::path& folder, StoreWriterOptions options)
    : folder_(folder), options_(std::move(options)) {
  std::error_code error;
  std::filesystem::create_directory(folder_, error);
  if (error) fail("{}: cannot make the folder ({})", folder_.string(), error.message());
  lock_.emplace(folder_);
  lock_->remove_leftovers();
  open();
}

void StoreWriter::open() {
  if (std::filesystem::exists(folder_ / kManifestFile)) {
    finished_ = read_manifest(folder_);
    require_same(finished_->recipe, options_.recipe, folder_);
    std::error_code ignored;
    std::filesystem::remove(state_path(), ignored);  // it ended before it could do so itself
    return;
  }
  if (std::filesystem::exists(state_path())) return load_state();
  for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
    // A first shard whose state was not written yet is one that will be written again.
    if (entry.path().filename() != shard_file(0))
      fail("{}: found {}, expected an activation store or an empty folder; choose another",
           folder_.string(), entry.path().filename().string());
  }
}

void StoreWriter::load_state() {
  const std::string source = state_path().string();
  const Json state = parse_json(read_text_file(state_path(), 256u << 20), source);
  if (!state.is_object() || !state.contains("recipe") || !state.contains("position") ||
      !state.contains("shards") || !state.contains("sums"))
    fail(
        "{}: found no harvest's state in it; the file is damaged: remove the folder and begin anew",
        source);
  require_same(state["recipe"], options_.recipe, folder_);
  position_ = state["position"];
  shards_ = shards_from_json(state["shards"], source);
  for (size_t i = 0; i < shards_.size(); ++i) {
    const auto path = folder_ / shard_file(i);
    std::error_code error;
    if (std::filesystem::file_size(path, error) != shards_[i].bytes || error)
      fail("{}: is missing or not of {} bytes; remove the folder and begin anew", path.string(),
           shards_[i].bytes);
    sealed_rows_ += shards_[i].rows;
  }
  for (const Json& sums : state["sums"])
    sums_.push_back({.sum = numbers(sums.value("sum", Json()), source),
                     .norm = json_number(sums, "norm", source),
                     .norm_square = json_number(sums, "norm_square", source),
                     .norm_max = json_number(sums, "norm_max", source)});
  if (sums_.size() != options_.sites.size())
    fail(
        "{}: found sums of {} sites, expected {}; the file is damaged: remove the folder and begin "
        "anew",
        source, sums_.size(), options_.sites.size());
}

void StoreWriter::save_state() const {
  Json sums = Json::array();
  for (const SiteSums& site : sums_)
    sums.push_back({{"sum", site.sum},
                    {"norm", site.norm},
                    {"norm_square", site.norm_square},
                    {"norm_max", site.norm_max}});
  write_file(state_path(), Json{{"recipe", options_.recipe},
                                {"position", position_},
                                {"shards", shards_json(shards_)},
                                {"sums", sums}}
                               .dump());
}

int64_t StoreWriter::append(std::span<const at::Tensor> rows, int64_t begin, int64_t end) {
  if (buffers_.empty()) {
    int64_t width = 0;
    for (const at::Tensor& site : rows) width += site.size(1);
    shard_rows_ = std::max<int64_t>(
        static_cast<int64_t>(options_.shard_bytes * 8 / bits_of(options_.type)) / width, 1);
    for (const at::Tensor& site : rows)
      buffers_.push_back(at::empty({shard_rows_, site.size(1)}, *scalar_type_of(options_.type)));
    sums_.resize(buffers_.size());
  }
  const int64_t count = std::min(end - begin, shard_rows_ - buffered_);
  for (size_t i = 0; i < buffers_.size(); ++i)
    buffers_[i].narrow(0, buffered_, count).copy_(rows[i].narrow(0, begin, count));
  buffered_ += count;
  return count;
}

void StoreWriter::write_shard() {
  const auto path = folder_ / shard_file(shards_.size());
  std::vector<SafetensorsEntry> entries;
  for (size_t i = 0; i < buffers_.size(); ++i) {
    const at::Tensor rows = buffers_[i].narrow(0, 0, buffered_);
    if (!rows.isfinite().all().item<bool>())
      fail("{}: found an activation at {} that does not fit {}; harvest in float32 or bfloat16",
           path.string(), options_.sites[i], dtype_name(options_.type));
    entries.push_back({.name = options_.sites[i],
                       .type = options_.type,
                       .shape = {buffered_, buffers_[i].size(1)}});
  }
  try {
    SafetensorsWriter file(path, entries);
    for (const at::Tensor& buffer : buffers_)
      file.write({static_cast<const std::byte*>(buffer.const_data_ptr()),
                  buffer.narrow(0, 0, buffered_).nbytes()});
    file.commit();
  } catch (const Error& error) {
    fail("{}; {} rows are safe: make room and run the same again to go on", error.what(),
         sealed_rows_);
  }
  shards_.push_back({.rows = static_cast<uint64_t>(buffered_),
                     .bytes = std::filesystem::file_size(path),
                     .sha256 = sha256_file(path)});
  for (size_t i = 0; i < buffers_.size(); ++i) sums_[i].add(buffers_[i].narrow(0, 0, buffered_));
  sealed_rows_ += static_cast<uint64_t>(buffered_);
  buffered_ = 0;
}

void StoreWriter::seal(Json position) {
  write_shard();
  position_ = std::move(position);
  save_state();
}

StoreManifest StoreWriter::finish(StoreManifest manifest) {
  if (buffered_ > 0) write_shard();
  manifest.recipe = options_.recipe;
  manifest.type = options_.type;
  manifest.rows = sealed_rows_;
  manifest.shards = shards_;
  const auto rows = static_cast<double>(sealed_rows_);
  for (size_t i = 0; i < sums_.size(); ++i) {
    StoreSite& site = manifest.sites[i];
    site.site = options_.sites[i];
    site.width = static_cast<int64_t>(sums_[i].sum.size());
    for (const double sum : sums_[i].sum) site.mean.push_back(sum / rows);
    site.norm_mean = sums_[i].norm / rows;
    site.norm_rms = std::sqrt(sums_[i].norm_square / rows);
    site.norm_max = sums_[i].norm_max;
  }
  write_file(folder_ / kManifestFile, to_json(manifest));
  std::error_code ignored;  // a manifest says that it is no longer needed
  std::filesystem::remove(state_path(), ignored);
  finished_ = manifest;
  return manifest;
}

}  // namespace vyx::sae
