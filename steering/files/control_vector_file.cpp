#include "steering/files/control_vector_file.h"

#include <ATen/Functions.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>
#include <limits>
#include <optional>
#include <set>
#include <span>
#include <string_view>
#include <utility>

#include "core/base/error.h"
#include "core/base/text.h"
#include "core/formats/gguf.h"

namespace vyx::steering {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF's tensors are little-endian");

constexpr std::string_view kArchitecture = "controlvector";
constexpr std::string_view kModelHint = "controlvector.model_hint";
constexpr std::string_view kLayerCount = "controlvector.layer_count";
constexpr std::string_view kSites = "vyx.sites";
constexpr std::string_view kEigenvalueCounts = "vyx.eigenvalue_counts";
constexpr std::string_view kEigenvalues = "vyx.eigenvalues";
constexpr std::string_view kPairs = "vyx.pairs";
constexpr std::string_view kHeldOut = "vyx.held_out";
constexpr std::string_view kDoubts = "vyx.doubts";  // of each direction; for readers other than us
constexpr uint64_t kMostBlocks = 1u << 16;

// The statistics and texts that a file keeps, and where they are in memory.
constexpr std::pair<std::string_view, double DirectionStatistics::*> kStatistics[] = {
    {"vyx.eigengap", &DirectionStatistics::eigengap},
    {"vyx.sign_vote_margin", &DirectionStatistics::sign_vote_margin},
    {"vyx.held_out_accuracy", &DirectionStatistics::held_out_accuracy},
    {"vyx.median_norm", &DirectionStatistics::median_norm},
};
constexpr std::pair<std::string_view, std::string Provenance::*> kTexts[] = {
    {"vyx.model_name", &Provenance::model_name},
    {"vyx.model_sha256", &Provenance::model_sha256},
    {"vyx.method", &Provenance::method},
    {"vyx.position", &Provenance::position},
    {"vyx.contrast_source", &Provenance::contrast_source},
    {"vyx.contrast_sha256", &Provenance::contrast_sha256},
    {"vyx.version", &Provenance::vyx_version},
};

struct Block {
  std::string path;  // "model.layers"
  uint64_t index = 0;
};

std::optional<uint64_t> parse_index(std::string_view digits) {
  uint64_t index = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), index);
  if (error != std::errc{} || end != digits.data() + digits.size() || index >= kMostBlocks)
    return std::nullopt;
  return index;
}

/// The block that a site is the output of, or nullopt for any other site.
std::optional<Block> block_of(const Site& site) {
  const size_t dot = site.path.rfind('.');
  if (site.port != Port::output || dot == std::string::npos) return std::nullopt;
  const auto index = parse_index(std::string_view(site.path).substr(dot + 1));
  if (!index) return std::nullopt;
  return Block{site.path.substr(0, dot), *index};
}

Site site_of(const Block& block) {
  return {fmt::format("{}.{}", block.path, block.index), Port::output};
}

/// The blocks of all directions when `direction.{k}` can say them: outputs of blocks of one list,
/// not the first one.
std::vector<Block> blocks_of(const std::vector<SiteDirection>& directions) {
  std::vector<Block> blocks;
  for (const SiteDirection& direction : directions) {
    const auto block = block_of(direction.site);
    if (!block || block->index == 0 || site_of(*block) != direction.site) return {};
    if (!blocks.empty() && blocks.front().path != block->path) return {};
    blocks.push_back(*block);
  }
  return blocks;
}

std::string index_convention(const std::vector<Block>& blocks) {
  if (blocks.empty()) return "site.{i} belongs to the i-th of vyx.sites, counted from 0";
  return fmt::format(
      "direction.k belongs to the output of block k, counted from 0: {}.k:output, Hugging Face "
      "hidden_states[k+1] (of the last block: what the final norm is given, which is not in that "
      "list), llama.cpp layer k",
      blocks.front().path);
}

std::string tensor_name(const std::vector<Block>& blocks, size_t i) {
  return blocks.empty() ? fmt::format("site.{}", i) : fmt::format("direction.{}", blocks[i].index);
}

/// The tensor's values [d] float32.
at::Tensor read_direction(const GgufTensor& tensor, const std::string& source) {
  if (tensor.type != GgmlType::f32 || tensor.shape.size() != 1) {
    fail("{}: tensor {} is {} with {} dimensions, expected F32 with one; it isn't a direction",
         source, quote(tensor.name), name_of(tensor.type), tensor.shape.size());
  }
  at::Tensor vector = at::empty({static_cast<int64_t>(tensor.shape[0])}, at::kFloat);
  std::memcpy(vector.mutable_data_ptr<float>(), tensor.data.data(), tensor.data.size());
  if (vector.numel() == 0 || !at::isfinite(vector).all().item<bool>()) {
    fail("{}: tensor {} is empty or holds NaN or infinity; extract the vector again", source,
         quote(tensor.name));
  }
  return vector;
}

/// `count` values under `key`; throws Error for another number.
template <class T>
const std::vector<T>& array_of(const Gguf& gguf, std::string_view key, size_t count) {
  const std::vector<T>& values = gguf.array<T>(key);
  if (values.size() != count) {
    fail("{}: {} has {} values, expected {}; the file is damaged", gguf.source(), key,
         values.size(), count);
  }
  return values;
}

std::string text_or_empty(const Gguf& gguf, std::string_view key) {
  return gguf.find(key) ? gguf.string(key) : std::string();
}

void read_statistics(const Gguf& gguf, std::vector<SiteDirection>& directions) {
  for (const auto& [key, member] : kStatistics) {
    const std::vector<double>& values = array_of<double>(gguf, key, directions.size());
    for (size_t i = 0; i < values.size(); ++i)
      directions[i].direction.statistics.*member = values[i];
  }
  if (gguf.find(kHeldOut)) {  // older files lack it
    const auto& held_out = array_of<uint32_t>(gguf, kHeldOut, directions.size());
    for (size_t i = 0; i < held_out.size(); ++i)
      directions[i].direction.statistics.held_out = held_out[i];
  }
  const std::vector<uint32_t>& counts =
      array_of<uint32_t>(gguf, kEigenvalueCounts, directions.size());
  const std::vector<double>& all = gguf.array<double>(kEigenvalues);
  std::span<const double> rest = all;
  for (size_t i = 0; i < counts.size(); ++i) {
    if (counts[i] > rest.size())
      fail("{}: {} has too few values; the file is damaged", gguf.source(), kEigenvalues);
    directions[i].direction.statistics.eigenvalues.assign(rest.begin(), rest.begin() + counts[i]);
    rest = rest.subspan(counts[i]);
  }
}

/// A file with our keys: vyx.sites says where each direction belongs.
std::vector<SiteDirection> read_own(const Gguf& gguf) {
  std::vector<SiteDirection> directions;
  for (const std::string& name : gguf.array<std::string>(kSites))
    directions.push_back({Site::parse(name), {}});
  if (directions.size() != gguf.tensors().size()) {
    fail("{}: {} tensors for {} sites, expected one each; the file is damaged", gguf.source(),
         gguf.tensors().size(), directions.size());
  }
  const std::vector<Block> blocks = blocks_of(directions);
  for (size_t i = 0; i < directions.size(); ++i) {
    directions[i].direction.vector =
        read_direction(gguf.tensor(tensor_name(blocks, i)), gguf.source());
  }
  read_statistics(gguf, directions);
  return directions;
}

/// A file of repeng or llama.cpp: the tensors' names are all that it says.
std::vector<SiteDirection> read_foreign(const Gguf& gguf, const std::string& block_path) {
  constexpr std::string_view kPrefix = "direction.";
  std::vector<std::pair<uint64_t, const GgufTensor*>> tensors;
  for (const GgufTensor& tensor : gguf.tensors()) {
    const std::string_view name = tensor.name;
    const auto block =
        name.starts_with(kPrefix) ? parse_index(name.substr(kPrefix.size())) : std::nullopt;
    if (!block) {
      fail("{}: tensor {} is not a direction, expected names like direction.14", gguf.source(),
           quote(name));
    }
    tensors.emplace_back(*block, &tensor);
  }
  std::sort(tensors.begin(), tensors.end());
  std::vector<SiteDirection> directions;
  for (const auto& [block, tensor] : tensors) {
    directions.push_back(
        {site_of({block_path, block}), {read_direction(*tensor, gguf.source()), {}}});
  }
  return directions;
}

/// llama.cpp's cvector-generator is the only writer of a signed layer count.
bool is_from_cvector_generator(const Gguf& gguf) {
  const GgufValue* count = gguf.find(kLayerCount);
  return count && std::holds_alternative<int32_t>(*count);
}

void require_one_width(const ControlVector& vector, const std::string& file) {
  if (vector.directions.empty()) fail("{}: holds no direction; extract the vector again", file);
  for (const auto& [site, direction] : vector.directions) {
    if (direction.vector.numel() != vector.width()) {
      fail("{}: widths differ: {} at {} and {} at {}; a model has one width", file, vector.width(),
           vector.directions.front().site.name(), direction.vector.numel(), site.name());
    }
  }
}

}  // namespace

void write_control_vector(const ControlVector& vector, const std::filesystem::path& path) {
  require_one_width(vector, path.string());
  const std::vector<Block> blocks = blocks_of(vector.directions);
  const Provenance& provenance = vector.provenance;

  std::vector<std::string> sites;
  std::vector<uint32_t> counts;
  std::vector<double> eigenvalues;
  std::vector<at::Tensor> vectors;  // keeps what `tensors` points to
  std::vector<GgufTensorData> tensors;
  for (size_t i = 0; i < vector.directions.size(); ++i) {
    const auto& [site, direction] = vector.directions[i];
    sites.push_back(site.name());
    const std::vector<double>& own = direction.statistics.eigenvalues;
    counts.push_back(static_cast<uint32_t>(own.size()));
    eigenvalues.insert(eigenvalues.end(), own.begin(), own.end());
    vectors.push_back(direction.vector.to(at::kCPU, at::kFloat).contiguous());
    const std::span<const float> values(vectors.back().const_data_ptr<float>(),
                                        static_cast<size_t>(vectors.back().numel()));
    tensors.push_back(
        {tensor_name(blocks, i), {values.size()}, GgmlType::f32, std::as_bytes(values)});
  }
  std::set<std::string_view> names;
  for (const GgufTensorData& tensor : tensors) {
    if (!names.insert(tensor.name).second)
      fail("{}: two directions for {}", path.string(), tensor.name);
  }

  std::vector<std::pair<std::string, GgufValue>> metadata = {
      {"general.architecture", std::string(kArchitecture)},
      {std::string(kModelHint), provenance.model_hint},
      {std::string(kLayerCount), static_cast<uint32_t>(tensors.size())},
      {"vyx.index_convention", index_convention(blocks)},
      {std::string(kSites), GgufArray(sites)},
      {std::string(kPairs), static_cast<uint64_t>(provenance.pairs)},
  };
  for (const auto& [key, member] : kTexts) metadata.emplace_back(key, provenance.*member);
  for (const auto& [key, member] : kStatistics) {
    std::vector<double> values;
    for (const SiteDirection& each : vector.directions)
      values.push_back(each.direction.statistics.*member);
    metadata.emplace_back(key, GgufArray(values));
  }
  std::vector<uint32_t> held_out;
  std::vector<std::string> doubts;
  for (const SiteDirection& each : vector.directions) {
    held_out.push_back(static_cast<uint32_t>(each.direction.statistics.held_out));
    doubts.push_back(fmt::format("{}", fmt::join(doubts_of(each.direction.statistics), "; ")));
  }
  metadata.emplace_back(kHeldOut, GgufArray(held_out));
  metadata.emplace_back(kDoubts, GgufArray(doubts));
  metadata.emplace_back(kEigenvalueCounts, GgufArray(counts));
  metadata.emplace_back(kEigenvalues, GgufArray(eigenvalues));
  write_gguf(path, metadata, tensors);
}

ControlVector read_control_vector(const std::filesystem::path& path, const std::string& block_path,
                                  std::string* warning) {
  const GgufFile file(path);
  const Gguf& gguf = *file;
  if (const std::string architecture = text_or_empty(gguf, "general.architecture");
      architecture != kArchitecture) {
    fail("{}: general.architecture is {}, expected \"{}\"; this GGUF file is not a control vector",
         path.string(), quote(architecture), kArchitecture);
  }
  ControlVector vector{path.string(), {}, {}};
  vector.provenance.model_hint = text_or_empty(gguf, kModelHint);
  if (gguf.find(kSites)) {
    for (const auto& [key, member] : kTexts) vector.provenance.*member = text_or_empty(gguf, key);
    vector.provenance.pairs =
        static_cast<int64_t>(gguf.unsigned_integer(kPairs, 0, std::numeric_limits<int64_t>::max()));
    vector.directions = read_own(gguf);
  } else {
    vector.directions = read_foreign(gguf, block_path);
    if (warning && is_from_cvector_generator(gguf)) {
      *warning = fmt::format(
          "{}: made by llama.cpp's cvector-generator (its layer_count is an i32), which writes "
          "block k's direction as direction.{{k+1}}: here as in llama.cpp it acts one block late. "
          "To undo that with repeng: v = ControlVector.import_gguf(FILE); v.directions = {{k - 1: "
          "d for k, d in v.directions.items()}}; v.export_gguf(OUT)",
          path.string());
    }
  }
  require_one_width(vector, path.string());
  return vector;
}

}  // namespace vyx::steering
