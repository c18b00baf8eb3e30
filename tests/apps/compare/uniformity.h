// Are p-values uniform, as they must be where there is nothing to find? Kolmogorov and Smirnov's
// test, with Smirnov's exact one-sided distribution.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace vyx::test {

/// Few draws give p-values on a grid, which the test is not for. Each is moved down by a random
/// share of its distance to `next_smaller`, the largest p below that it could have been: where
/// P(p ≤ α) = α for each α of the grid, what results is uniform, and what is not stays so.
std::vector<double> spread(std::span<const double> p, std::span<const double> next_smaller,
                           uint64_t seed);
/// The same for p-values of `draws` draws: multiples of 1 / (1 + draws).
std::vector<double> spread(std::span<const double> p, int64_t draws, uint64_t seed);

/// P(D⁺ ≥ d) for n uniform values: how probable it is that their distribution function is
/// above x by so much anywhere.
double smirnov(size_t n, double d);
/// The p-value of values being uniform; at most 1 in 1,000 below .001 if they are. Two-sided: twice
/// that of the larger side, which is exact to many digits where it is small.
double uniform_p(std::vector<double> values);
/// The same against too many small values only: adjusted p-values are above uniform ones.
double not_too_small_p(std::vector<double> values);

}  // namespace vyx::test
