#include "apps/compare/sign_flip.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <vector>

#include "core/base/random.h"

namespace vyx::compare {
namespace {

constexpr uint64_t kFlipStream = 0x666c6970;  // "flip"
constexpr size_t kAllFlips = 16;              // clusters up to which all flips are counted
constexpr uint64_t kDraws = 9'999;
constexpr double kSumRounding = 1e-12;  // of a sum, relative to its terms

/// The clusters that a flip turns around, summed, for each flip but the one that turns none.
ClusterSums every_subset(const ClusterSums& clusters) {
  const size_t count = size_t{1} << clusters.sums.size();
  ClusterSums subsets{std::vector<double>(count), std::vector<double>(count)};
  for (size_t set = 1; set < count; ++set) {
    const auto first = static_cast<size_t>(std::countr_zero(set));
    const size_t rest = set & (set - 1);
    subsets.sums[set] = subsets.sums[rest] + clusters.sums[first];
    subsets.sizes[set] = subsets.sizes[rest] + clusters.sizes[first];
  }
  subsets.sums.erase(subsets.sums.begin());
  subsets.sizes.erase(subsets.sizes.begin());
  return subsets;
}

ClusterSums drawn_subsets(const ClusterSums& clusters, uint64_t seed) {
  ClusterSums subsets{std::vector<double>(kDraws), std::vector<double>(kDraws)};
  const size_t words = (clusters.sums.size() + 63) / 64;
  for (uint64_t draw = 0; draw < kDraws; ++draw)
    for (size_t g = 0; g < clusters.sums.size(); ++g)
      if ((random_bits(seed, kFlipStream, draw * words + g / 64) >> (g % 64) & 1) != 0) {
        subsets.sums[draw] += clusters.sums[g];
        subsets.sizes[draw] += clusters.sizes[g];
      }
  return subsets;
}

}  // namespace

SignFlip sign_flip(std::span<const double> differences, std::span<const size_t> clusters,
                   uint64_t seed) {
  const ClusterSums sums = cluster_sums(differences, clusters);
  SignFlip result{.clusters = sums.sums.size(), .exact = sums.sums.size() <= kAllFlips};
  double total = 0, scale = 0;
  for (const double sum : sums.sums) {
    total += sum;
    scale += std::fabs(sum);
  }
  result.mean = total / static_cast<double>(differences.size());
  if (!std::isfinite(result.mean)) return result;

  const ClusterSums subsets = result.exact ? every_subset(sums) : drawn_subsets(sums, seed);
  // Σεs = Σs − 2·(the sum of what is turned around).
  const double least = std::fabs(total) - kSumRounding * scale;
  double reached = 1;
  for (const double sum : subsets.sums) reached += std::fabs(total - 2 * sum) >= least;
  const auto all = static_cast<double>(subsets.sums.size() + 1);
  result.p = reached / all;

  // A mean of θ is rejected from below while too few subsets have a mean of at most θ.
  std::vector<double> means;
  double idle = 0;  // draws that turn no cluster around say nothing about θ
  for (size_t i = 0; i < subsets.sums.size(); ++i)
    if (subsets.sizes[i] > 0)
      means.push_back(subsets.sums[i] / subsets.sizes[i]);
    else
      ++idle;
  const double from_end = std::floor(kTail * all + 1e-9) - idle;
  if (from_end < 1 || from_end > static_cast<double>(means.size())) return result;
  const auto nth = [&](auto place) {
    std::nth_element(means.begin(), place, means.end());
    return *place;
  };
  const auto k = static_cast<std::ptrdiff_t>(from_end);
  result.interval = {nth(means.begin() + k - 1), nth(means.end() - k)};
  return result;
}

}  // namespace vyx::compare
