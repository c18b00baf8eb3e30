// The paired comparison of two methods on the same items, by flipping the signs of whole clusters.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

#include "apps/compare/intervals.h"

namespace vyx::compare {

struct SignFlip {
  double mean = std::numeric_limits<double>::quiet_NaN();  // of the differences, over items
  // Two-sided: the share of flips, the observed signs among them, whose sum is as far from 0.
  double p = 1;
  Interval interval;  // of the mean: what no test of level .05 rejects; NaN below 6 clusters
  size_t clusters = 0;
  bool exact = true;  // all flips were counted, and not 9,999 that were drawn
};

/// Exact where clusters' sums are independent and symmetric about 0 when there is no difference;
/// the same as a wild cluster bootstrap with the null imposed (Canay, Santos and Shaikh 2021). Up
/// to 16 clusters it counts all flips. Throws Error unless there is one cluster per difference.
SignFlip sign_flip(std::span<const double> differences, std::span<const size_t> clusters,
                   uint64_t seed);

}  // namespace vyx::compare
