#include "apps/compare/intervals.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "core/base/error.h"
#include "core/base/random.h"
#include "core/base/student_t.h"

namespace vyx::compare {
namespace {

constexpr uint64_t kBootstrapStream = 0x626f6f74;  // "boot"
constexpr size_t kFewClusters = 8;                 // below, the bootstrap has too little to draw
constexpr double kNormalQuantile = 1.959963984540054;  // of 1 − kTail

struct Ratio {  // Σs / Σn over clusters, and its standard error
  double mean = 0, error = 0;
};

Ratio ratio_of(std::span<const double> sums, std::span<const double> sizes) {
  const auto clusters = static_cast<double>(sums.size());
  const double items = std::accumulate(sizes.begin(), sizes.end(), 0.0);
  const double mean = std::accumulate(sums.begin(), sums.end(), 0.0) / items;
  double squares = 0;
  for (size_t g = 0; g < sums.size(); ++g) {
    const double residual = sums[g] - mean * sizes[g];
    squares += residual * residual;
  }
  return {mean, std::sqrt(clusters / (clusters - 1) * squares) / items};
}

Interval bootstrap_t(const ClusterSums& clusters, int64_t resamples, uint64_t seed) {
  const size_t count = clusters.sums.size();
  const Ratio observed = ratio_of(clusters.sums, clusters.sizes);
  std::vector<double> sums(count), sizes(count), ratios;
  ratios.reserve(static_cast<size_t>(resamples));
  uint64_t index = 0;
  for (int64_t r = 0; r < resamples; ++r) {
    for (size_t i = 0; i < count; ++i) {
      const size_t drawn = random_bits(seed, kBootstrapStream, index++) % count;
      sums[i] = clusters.sums[drawn];
      sizes[i] = clusters.sizes[drawn];
    }
    const Ratio again = ratio_of(sums, sizes);
    const double away = again.mean - observed.mean;
    // A resample without spread is infinitely far out, unless it is where it was.
    ratios.push_back(away == 0 ? 0 : away / again.error);
  }
  std::sort(ratios.begin(), ratios.end());
  // Of R resamples the (R + 1)·tail-th from either end; no interpolation, since ends may be
  // infinite.
  const auto from_end = static_cast<size_t>(
      std::max(1.0, std::floor(kTail * static_cast<double>(resamples + 1) + 1e-9)));
  const double low = ratios.at(from_end - 1), high = ratios.at(ratios.size() - from_end);
  return {observed.mean - high * observed.error, observed.mean - low * observed.error};
}

/// With residuals r = s − θn: u = r / √(1 − n/N), se = √Σu² / N; Satterthwaite's degrees of freedom
/// of Σu² for independent items, (tr C)² / tr C².
Interval cr2_t(const ClusterSums& clusters) {
  const std::vector<double>& n = clusters.sizes;
  const double items = std::accumulate(n.begin(), n.end(), 0.0);
  const double mean = ratio_of(clusters.sums, n).mean;
  double squares = 0, trace = 0, trace_of_square = 0;
  for (size_t g = 0; g < n.size(); ++g) {
    const double residual = clusters.sums[g] - mean * n[g];
    squares += residual * residual / (1 - n[g] / items);
    for (size_t h = 0; h < n.size(); ++h) {
      const double c = ((g == h ? n[g] : 0) - n[g] * n[h] / items) /
                       std::sqrt((1 - n[g] / items) * (1 - n[h] / items));
      if (g == h) trace += c;
      trace_of_square += c * c;
    }
  }
  const double half =
      student_t_quantile(1 - kTail, trace * trace / trace_of_square) * std::sqrt(squares) / items;
  return {mean - half, mean + half};
}

}  // namespace

ClusterSums cluster_sums(std::span<const double> values, std::span<const size_t> clusters) {
  if (values.size() != clusters.size())
    fail("found {} values and the clusters of {}, expected one cluster per value", values.size(),
         clusters.size());
  struct Sum {
    double sum = 0, size = 0;
  };
  std::map<size_t, Sum> by_number;
  for (size_t i = 0; i < values.size(); ++i) {
    by_number[clusters[i]].sum += values[i];
    by_number[clusters[i]].size += 1;
  }
  ClusterSums result;
  for (const auto& [number, sum] : by_number) {
    result.sums.push_back(sum.sum);
    result.sizes.push_back(sum.size);
  }
  return result;
}

Interval mean_interval(std::span<const double> values, std::span<const size_t> clusters,
                       int64_t resamples, uint64_t seed) {
  const ClusterSums sums = cluster_sums(values, clusters);
  if (sums.sums.size() < 2 ||
      !std::all_of(values.begin(), values.end(), [](double value) { return std::isfinite(value); }))
    return {};
  return sums.sums.size() < kFewClusters ? cr2_t(sums) : bootstrap_t(sums, resamples, seed);
}

Interval share_interval(std::span<const double> items) {
  if (items.empty()) return {};
  const auto n = static_cast<double>(items.size());
  const double share = std::accumulate(items.begin(), items.end(), 0.0) / n;
  const double z2 = kNormalQuantile * kNormalQuantile, scale = 1 + z2 / n;
  const double center = (share + z2 / (2 * n)) / scale;
  const double half =
      kNormalQuantile / scale * std::sqrt(share * (1 - share) / n + z2 / (4 * n * n));
  return {std::max(0.0, center - half), std::min(1.0, center + half)};
}

Interval share_change_interval(std::span<const double> before, std::span<const double> after) {
  if (before.size() != after.size())
    fail("found {} items before and {} after, expected the same ones", before.size(), after.size());
  if (before.empty()) return {};
  // One item more is counted as gained, and one as lost.
  const double n = static_cast<double>(before.size()) + 2;
  double gained = 1, lost = 1;
  for (size_t i = 0; i < before.size(); ++i) {
    gained += after[i] > before[i];
    lost += after[i] < before[i];
  }
  const double change = (gained - lost) / n;
  const double half = kNormalQuantile * std::sqrt(((gained + lost) / n - change * change) / n);
  return {std::max(-1.0, change - half), std::min(1.0, change + half)};
}

Interval widened(const Interval& interval, double estimate, double margin) {
  return {estimate - std::hypot(estimate - interval.low, margin),
          estimate + std::hypot(interval.high - estimate, margin)};
}

}  // namespace vyx::compare
