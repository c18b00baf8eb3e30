#include "sae/kernels/select.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <functional>
#include <limits>
#include <mutex>

#include "sae/kernels/tiles.h"

namespace vyx::sae {
namespace {

using Tile = Preactivations::Tile;

/// Something that may be selected: its z lies in low … high.
struct Candidate {
  int32_t latent;
  float low, high;
};

/// The candidates of one token of which at most k are wanted: whatever k others are certainly above
/// is dropped now and then.
class TopCandidates {
 public:
  explicit TopCandidates(int64_t k) : k_(k), limit_(2 * k + 64) {}

  float bound() const { return bound_; }  // what is below it is not wanted

  void add(const Candidate& candidate) {
    candidates_.push_back(candidate);
    if (int64_t(candidates_.size()) >= limit_) drop();
  }

  /// Writes what is selected to `code`, as one more token.
  void finish(const Preactivations& all, int64_t token, SparseCode& code) {
    if (int64_t(candidates_.size()) > k_) drop();
    std::sort(candidates_.begin(), candidates_.end(),
              [](const Candidate& a, const Candidate& b) { return a.latent < b.latent; });
    std::vector<int32_t> latents;
    std::vector<float> values;
    for (const Candidate& c : candidates_) {
      latents.push_back(c.latent);
      values.push_back(c.low);
    }
    if (all.screened()) all.evaluate(values.data(), token, latents.data(), int64_t(latents.size()));
    float least = 0;
    int64_t equal = std::numeric_limits<int64_t>::max();  // how many of value `least` are wanted
    if (int64_t(values.size()) > k_) {
      std::vector<float> sorted = values;
      std::nth_element(sorted.begin(), sorted.begin() + (k_ - 1), sorted.end(), std::greater<>());
      least = sorted[k_ - 1];
      equal = k_ - std::count_if(values.begin(), values.end(), [&](float v) { return v > least; });
    }
    for (size_t e = 0; e < values.size(); ++e) {
      if (!(values[e] > 0) || values[e] < least || (values[e] == least && equal-- <= 0)) continue;
      code.indices.push_back(latents[e]);
      code.values.push_back(values[e]);
    }
    code.offsets.push_back(code.entries());
  }

 private:
  void drop() {
    lows_.clear();
    for (const Candidate& c : candidates_) lows_.push_back(c.low);
    std::nth_element(lows_.begin(), lows_.begin() + (k_ - 1), lows_.end(), std::greater<>());
    bound_ = std::max(bound_, lows_[k_ - 1]);
    std::erase_if(candidates_, [&](const Candidate& c) { return c.high < bound_; });
    limit_ = 2 * int64_t(candidates_.size()) + 64;
  }

  int64_t k_, limit_;
  float bound_ = -std::numeric_limits<float>::infinity();
  std::vector<Candidate> candidates_;
  std::vector<float> lows_;
};

/// Counts values by the upper half of their bits, to know what `wanted` of them are certainly at
/// least. Positive floats are ordered as their bits are.
class Ranking {
 public:
  explicit Ranking(int64_t wanted) : wanted_(wanted), counts_(1 << 15) {}

  void add(float low) {
    if (low > 0) ++counts_[bucket(low)];
  }

  /// The largest lower edge of a bucket that `wanted` values reach; 0 when they do not.
  float bound() const {
    int64_t above = 0;
    for (uint32_t b = uint32_t(counts_.size()); b-- > 0;) {
      above += counts_[b];
      if (above >= wanted_) {
        const uint32_t bits = b << 16;
        float edge;
        std::memcpy(&edge, &bits, sizeof edge);
        return edge;
      }
    }
    return 0;
  }

 private:
  static uint32_t bucket(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits >> 16;
  }

  int64_t wanted_;
  std::vector<int64_t> counts_;
};

struct BatchCandidate {
  int32_t token;
  Candidate candidate;
};

/// What may be among the `count` largest of the batch: a superset, tokens in no order, the latents
/// of a token rising.
std::vector<BatchCandidate> batch_candidates(const Preactivations& all, int64_t count) {
  const std::vector<float> zeros(all.latents());
  std::mutex mutex;  // of pool and ranking; what the threads find when changes the superset, never
                     // what is selected from it
  std::vector<BatchCandidate> pool;
  Ranking ranking(count);
  std::atomic<float> bound = 0;
  const auto hopeless = [&](const BatchCandidate& c) { return c.candidate.high < bound; };
  parallel_tiles(all.tiles(), [&](int64_t index) {
    Tile tile(all, index);
    std::vector<BatchCandidate> found;
    size_t ranked = 0;
    const auto rank = [&] {
      const std::lock_guard lock(mutex);
      for (; ranked < found.size(); ++ranked) ranking.add(found[ranked].candidate.low);
      bound = ranking.bound();
    };
    for (int64_t block = 0; block < all.blocks(); ++block) {
      tile.multiply(block);
      const float least = bound;
      for (int64_t row = 0; row < tile.tokens(); ++row) {
        const auto hits = tile.find(row, zeros.data(), least);
        for (int64_t h = 0; h < hits.count; ++h) {
          const auto [low, high] = tile.bounds(row, hits.begin[h]);
          found.push_back({int32_t(tile.first() + row),
                           {int32_t(tile.first_latent() + hits.begin[h]), low, high}});
        }
      }
      if (found.size() - ranked < 4096) continue;
      rank();
      std::erase_if(found, hopeless);
      ranked = found.size();
    }
    rank();
    std::erase_if(found, hopeless);
    const std::lock_guard lock(mutex);
    pool.insert(pool.end(), found.begin(), found.end());
    if (int64_t(pool.size()) > 3 * count + (1 << 16)) std::erase_if(pool, hopeless);
  });
  std::erase_if(pool, hopeless);
  return pool;
}

/// Rows of candidates, by token, with their values.
SparseCode evaluate(const Preactivations& all, const std::vector<BatchCandidate>& pool) {
  SparseCode code{.latents = all.latents(), .offsets = std::vector<int64_t>(all.batch() + 1)};
  for (const BatchCandidate& c : pool) ++code.offsets[c.token + 1];
  for (int64_t t = 0; t < all.batch(); ++t) code.offsets[t + 1] += code.offsets[t];
  code.indices.resize(pool.size());
  code.values.resize(pool.size());
  std::vector<int64_t> next(code.offsets.begin(), code.offsets.end() - 1);
  for (const BatchCandidate& c : pool) {
    const int64_t place = next[c.token]++;
    code.indices[place] = c.candidate.latent;
    code.values[place] = c.candidate.low;
  }
  if (all.screened())
    parallel_ranges(all.batch(), Preactivations::kTokens, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t)
        all.evaluate(code.values.data() + code.offsets[t], t, code.indices.data() + code.offsets[t],
                     code.offsets[t + 1] - code.offsets[t]);
    });
  return code;
}

}  // namespace

SparseCode select_topk(const Preactivations& all, int64_t k) {
  const std::vector<float> zeros(all.latents());
  std::vector<SparseCode> parts(all.tiles());
  parallel_tiles(all.tiles(), [&](int64_t index) {
    Tile tile(all, index);
    std::vector<TopCandidates> rows(tile.tokens(), TopCandidates(k));
    for (int64_t block = 0; block < all.blocks(); ++block) {
      tile.multiply(block);
      for (int64_t row = 0; row < tile.tokens(); ++row) {
        const auto hits = tile.find(row, zeros.data(), rows[row].bound());
        for (int64_t h = 0; h < hits.count; ++h) {
          const auto [low, high] = tile.bounds(row, hits.begin[h]);
          if (high >= rows[row].bound())
            rows[row].add({int32_t(tile.first_latent() + hits.begin[h]), low, high});
        }
      }
    }
    for (int64_t row = 0; row < tile.tokens(); ++row)
      rows[row].finish(all, tile.first() + row, parts[index]);
  });
  return join(parts, all.latents());
}

SparseCode select_batch_topk(const Preactivations& all, int64_t count) {
  const SparseCode candidates = evaluate(all, batch_candidates(all, count));
  float least = 0;
  int64_t equal = std::numeric_limits<int64_t>::max();  // how many of value `least` are wanted
  if (candidates.entries() > count) {
    std::vector<float> sorted = candidates.values;
    std::nth_element(sorted.begin(), sorted.begin() + (count - 1), sorted.end(), std::greater<>());
    least = sorted[count - 1];
    equal = count - std::count_if(sorted.begin(), sorted.begin() + (count - 1),
                                  [&](float v) { return v > least; });
  }
  SparseCode code{.latents = all.latents()};
  for (int64_t t = 0; t < all.batch(); ++t) {
    for (int64_t e = candidates.offsets[t]; e < candidates.offsets[t + 1]; ++e) {
      const float value = candidates.values[e];
      if (!(value > 0) || value < least || (value == least && equal-- <= 0)) continue;
      code.indices.push_back(candidates.indices[e]);
      code.values.push_back(value);
    }
    code.offsets.push_back(code.entries());
  }
  return code;
}

std::optional<SparseCode> select_above(const Preactivations& all, const float* lower,
                                       double limit) {
  std::vector<SparseCode> parts(all.tiles());
  const auto allowed = int64_t(limit * double(all.batch()));
  std::atomic<int64_t> entries = 0;
  const auto select = [&](int64_t index) {
    if (entries > allowed) return;  // and stays so: nothing will be returned
    Tile tile(all, index);
    std::vector<std::vector<int32_t>> latents(tile.tokens());
    std::vector<std::vector<float>> values(tile.tokens());
    for (int64_t block = 0; block < all.blocks(); ++block) {
      tile.multiply(block);
      for (int64_t row = 0; row < tile.tokens(); ++row) {
        const auto hits = tile.find(row, lower, -std::numeric_limits<float>::infinity());
        for (int64_t h = 0; h < hits.count; ++h) {
          latents[row].push_back(int32_t(tile.first_latent() + hits.begin[h]));
          values[row].push_back(tile.bounds(row, hits.begin[h]).low);
        }
      }
    }
    SparseCode& part = parts[index];
    for (int64_t row = 0; row < tile.tokens(); ++row) {
      if (all.screened())
        all.evaluate(values[row].data(), tile.first() + row, latents[row].data(),
                     int64_t(latents[row].size()));
      for (size_t e = 0; e < latents[row].size(); ++e) {
        if (!(values[row][e] > lower[latents[row][e]])) continue;
        part.indices.push_back(latents[row][e]);
        part.values.push_back(values[row][e]);
      }
      part.offsets.push_back(part.entries());
    }
    entries += part.entries();
  };
  parallel_tiles(1, select);
  if (double(entries) > limit * double(std::min(all.batch(), Preactivations::kTokens)))
    return std::nullopt;
  parallel_tiles(all.tiles() - 1, [&](int64_t index) { select(index + 1); });
  if (entries > allowed) return std::nullopt;
  return join(parts, all.latents());
}

}  // namespace vyx::sae
