#include "sae/store/activation_store.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>
#include <fmt/ranges.h>
#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "core/base/error.h"
#include "core/hooks/site_pattern.h"
#include "core/io/digest.h"

namespace vyx::sae {
namespace {

constexpr int64_t kRowsATask = 64;

/// Widens `count` numbers and says whether all are finite. In a file they may begin at any byte.
template <class Number>
bool widen(const std::byte* data, int64_t count, float* out) {
  uint32_t not_finite = 0;
  for (int64_t j = 0; j < count; ++j) {
    Number number;
    std::memcpy(&number, data + j * static_cast<int64_t>(sizeof(Number)), sizeof(Number));
    out[j] = static_cast<float>(number);
    constexpr uint32_t kExponent = 0x7f800000;  // all ones: infinity or NaN
    not_finite |= static_cast<uint32_t>((std::bit_cast<uint32_t>(out[j]) & kExponent) == kExponent);
  }
  return not_finite == 0;
}

bool widen(ElementType type, const std::byte* data, int64_t count, float* out) {
  switch (type) {
    case ElementType::f32:
      return widen<float>(data, count, out);
    case ElementType::f16:
      return widen<c10::Half>(data, count, out);
    default:
      return widen<c10::BFloat16>(data, count, out);
  }
}

}  // namespace

ActivationStore::ActivationStore(const std::filesystem::path& folder, bool verify)
    : folder_(folder),
      manifest_(read_manifest(folder)),
      digest_(sha256_file(folder / kManifestFile)) {
  uint64_t first_row = 0;
  for (size_t i = 0; i < manifest_.shards.size(); ++i) {
    shards_.push_back(open(i, first_row, verify));
    first_row += manifest_.shards[i].rows;
  }
}

ActivationStore::Shard ActivationStore::open(size_t index, uint64_t first_row, bool verify) const {
  const StoreShard& expected = manifest_.shards[index];
  const auto path = folder_ / shard_file(index);
  if (!std::filesystem::exists(path))
    fail("{}: is missing, expected {} rows of the store; harvest again", path.string(),
         expected.rows);
  if (const auto bytes = std::filesystem::file_size(path); bytes != expected.bytes)
    fail("{}: found {} bytes, expected {}; the shard is damaged: harvest again", path.string(),
         bytes, expected.bytes);
  if (verify) {
    if (const std::string found = sha256_file(path); found != expected.sha256)
      fail("{}: found SHA-256 {}, expected {}; the shard is damaged: harvest again", path.string(),
           found, expected.sha256);
  }
  Shard shard{.file = SafetensorsFile(path), .first_row = first_row, .data = {}};
  for (const StoreSite& site : manifest_.sites) {
    const SafetensorsTensor& tensor = shard.file->tensor(site.site);
    const std::vector<int64_t> shape{static_cast<int64_t>(expected.rows), site.width};
    if (tensor.type != manifest_.type || tensor.shape != shape)
      fail("{}: found {} {} [{}], expected {} [{}]; the shard is of another store", path.string(),
           site.site, name_of(tensor.type), fmt::join(tensor.shape, ", "), name_of(manifest_.type),
           fmt::join(shape, ", "));
    shard.data.push_back(tensor.data.data());
  }
  // Rows are read in random order: reading ahead would fetch thirty times as much.
  const auto bytes = shard.file.bytes();
  ::madvise(const_cast<std::byte*>(bytes.data()), bytes.size(), MADV_RANDOM);
  return shard;
}

std::vector<size_t> ActivationStore::find(std::span<const std::string> sites) const {
  std::vector<size_t> indices;
  std::vector<std::string> names;
  for (const StoreSite& site : manifest_.sites) names.push_back(site.site);
  for (const std::string& site : sites) {
    const auto found = std::find(names.begin(), names.end(), site);
    if (found == names.end())
      fail("{}: no site {}; it has {}", folder_.string(), site, fmt::join(names, ", "));
    indices.push_back(static_cast<size_t>(found - names.begin()));
  }
  if (sites.empty())
    for (size_t i = 0; i < names.size(); ++i) indices.push_back(i);
  return indices;
}

std::vector<std::string> ActivationStore::match(std::span<const std::string> patterns) const {
  std::vector<Site> sites;
  for (const StoreSite& site : manifest_.sites) sites.push_back(Site::parse(site.site));
  std::vector<std::string> chosen;
  for (const std::string& pattern : patterns)
    for (const Site& site : SitePattern(pattern).choose(sites, folder_.string()))
      if (std::find(chosen.begin(), chosen.end(), site.name()) == chosen.end())
        chosen.push_back(site.name());
  return chosen;
}

int64_t ActivationStore::width(std::span<const size_t> sites) const {
  int64_t width = 0;
  for (const size_t site : sites) width += manifest_.sites[site].width;
  return width;
}

void ActivationStore::gather_row(uint64_t row, std::span<const size_t> sites, float* out) const {
  const auto after = std::upper_bound(
      shards_.begin(), shards_.end(), row,
      [](uint64_t wanted, const Shard& shard) { return wanted < shard.first_row; });
  const Shard& shard = *std::prev(after);
  const uint64_t in_shard = row - shard.first_row;
  for (const size_t site : sites) {
    const int64_t width = manifest_.sites[site].width;
    const uint64_t bytes = static_cast<uint64_t>(width) * bits_of(manifest_.type) / 8;
    if (!widen(manifest_.type, shard.data[site] + in_shard * bytes, width, out))
      fail("{}: found NaN or infinity in row {} of {}, expected finite numbers; harvest again",
           shard.file->source(), in_shard, manifest_.sites[site].site);
    out += width;
  }
}

at::Tensor ActivationStore::gather(std::span<const uint64_t> rows, std::span<const size_t> sites,
                                   bool parallel) const {
  for (const uint64_t row : rows)
    if (row >= manifest_.rows)
      fail("{}: no row {}; it has {}", folder_.string(), row, manifest_.rows);
  const int64_t row_width = width(sites);
  at::Tensor result =
      at::empty({static_cast<int64_t>(rows.size()), row_width}, at::kFloat);  // [rows, width]
  auto* out = result.mutable_data_ptr<float>();
  const auto gather_range = [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      gather_row(rows[static_cast<size_t>(r)], sites, out + r * row_width);
  };
  const auto count = static_cast<int64_t>(rows.size());
  if (parallel) {
    at::parallel_for(0, count, kRowsATask, gather_range);
  } else {
    gather_range(0, count);
  }
  return result;
}

}  // namespace vyx::sae
