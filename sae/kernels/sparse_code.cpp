#include "sae/kernels/sparse_code.h"

#include <algorithm>
#include <limits>

#include "core/base/error.h"
#include "sae/kernels/tiles.h"

namespace vyx::sae {

SparseCode join(const std::vector<SparseCode>& parts, int64_t latents) {
  SparseCode code{.latents = latents};
  std::vector<int64_t> starts;
  int64_t entries = 0;
  for (const SparseCode& part : parts) {
    starts.push_back(entries);
    for (int64_t t = 0; t < part.tokens(); ++t)
      code.offsets.push_back(entries + part.offsets[t + 1]);
    entries += part.entries();
  }
  code.indices.resize(entries);
  code.values.resize(entries);
  parallel_tiles(int64_t(parts.size()), [&](int64_t p) {
    std::copy(parts[p].indices.begin(), parts[p].indices.end(), code.indices.begin() + starts[p]);
    std::copy(parts[p].values.begin(), parts[p].values.end(), code.values.begin() + starts[p]);
  });
  return code;
}

LatentOrder by_latent(const SparseCode& code) {
  if (code.entries() > std::numeric_limits<int32_t>::max())
    fail(
        "sparse code: found {} latents that fire in a batch, expected fewer than 2³¹; use a "
        "smaller batch",
        code.entries());
  // A counting sort. Each of a few ranges of tokens counts for itself, then knows where each of its
  // latents begins.
  constexpr int64_t kRanges = 8;
  const int64_t tile = std::max<int64_t>(1, tiles_of(code.tokens(), kRanges));
  std::vector<std::vector<int32_t>> next(tiles_of(code.tokens(), tile),
                                         std::vector<int32_t>(code.latents));
  parallel_ranges(code.tokens(), tile, [&](int64_t begin, int64_t end) {
    auto& counts = next[begin / tile];
    for (int64_t e = code.offsets[begin]; e < code.offsets[end]; ++e) ++counts[code.indices[e]];
  });
  LatentOrder order{.offsets = std::vector<int64_t>(code.latents + 1)};
  int64_t entries = 0;
  for (int64_t i = 0; i < code.latents; ++i) {
    order.offsets[i] = entries;
    for (auto& counts : next) {
      const int32_t count = counts[i];
      counts[i] = int32_t(entries);
      entries += count;
    }
  }
  order.offsets[code.latents] = entries;
  order.tokens.resize(entries);
  order.entries.resize(entries);
  parallel_ranges(code.tokens(), tile, [&](int64_t begin, int64_t end) {
    auto& places = next[begin / tile];
    for (int64_t t = begin; t < end; ++t)
      for (int64_t e = code.offsets[t]; e < code.offsets[t + 1]; ++e) {
        const int32_t place = places[code.indices[e]]++;
        order.tokens[place] = int32_t(t);
        order.entries[place] = int32_t(e);
      }
  });
  return order;
}

}  // namespace vyx::sae
