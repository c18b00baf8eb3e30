// Intervals of 95 % for means over items that come in clusters (prompts, templates), and for shares
// of items. NaN at both ends: there are too few clusters for one.
#pragma once
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace vyx::compare {

inline constexpr double kTail = 0.025;  // of an interval's error, on each side

struct Interval {
  double low = std::numeric_limits<double>::quiet_NaN();
  double high = std::numeric_limits<double>::quiet_NaN();
};

/// Items by cluster, in the order of the clusters' numbers.
struct ClusterSums {
  std::vector<double> sums, sizes;  // [clusters]: of the values, and how many there are
};
/// `clusters` [items]: the cluster of each value. Throws Error when the two differ in length.
ClusterSums cluster_sums(std::span<const double> values, std::span<const size_t> clusters);

/// Of the mean over items, whose clusters are independent. From 8 clusters on the studentised
/// bootstrap, of (θ* − θ) / se* over resamples of clusters (Efron and Tibshirani 1993, 12.5): it
/// follows skew, and covers where the percentile bootstrap covers too little. Fewer: Student's t
/// with the CR2 standard error and its degrees of freedom (Bell and McCaffrey 2002). NaN for fewer
/// than two clusters and for values that are not finite; an end may be infinite where resamples
/// have no spread.
Interval mean_interval(std::span<const double> values, std::span<const size_t> clusters,
                       int64_t resamples, uint64_t seed);

/// Of the share of independent items that are 1 and not 0 (Wilson 1927); of how that share changes
/// item by item (Bonett and Price 2012). Unlike a bootstrap's, neither is empty when no item
/// changes. NaN without items.
Interval share_interval(std::span<const double> items);
Interval share_change_interval(std::span<const double> before, std::span<const double> after);

/// An interval around `estimate` that takes up a further margin of error, independent of the first:
/// each side becomes √(side² + margin²).
Interval widened(const Interval& interval, double estimate, double margin);

}  // namespace vyx::compare
