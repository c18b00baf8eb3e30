// The direction that separates two sets of activations, by any method of methods.h, and how far to
// trust it. Pure linear algebra, in float64, deterministic.
#pragma once
#include <ATen/core/Tensor.h>

#include <string>
#include <string_view>
#include <vector>

#include "steering/directions/methods.h"

namespace vyx::steering {

struct DirectionStatistics {
  std::vector<double> eigenvalues;  // of DᵀD (centred for pca-diff), the largest first, at most 8
  double eigengap = 0;          // 1 − λ2/λ1 in [0, 1]: near 0, another direction explains the
                                // pairs as well; NaN where there is no λ2
  double sign_vote_margin = 0;  // (pairs with P·v > N·v − pairs with P·v < N·v) / n: near 0, the
                                // sign is a guess; below 0 only for a method with a sign of its own
  double held_out_accuracy = 0;  // share of pairs left out of a second fit whose P·v > N·v, over
                                 // what they have in common; NaN when too few pairs differ
  double median_norm = 0;        // of all activations: what a coefficient is to be compared with
  int64_t held_out = 0;  // what held_out_accuracy is the mean of: so many pairs that differ,
                         // or personas
};

/// Why a direction is not to be trusted, in a few words each: its sign is a guess, another
/// direction explains the pairs as well, nothing was held out to judge it. Empty: nothing is known
/// against it.
std::vector<std::string> doubts_of(const DirectionStatistics& statistics);

struct Direction {
  at::Tensor vector;  // [d] float32
  DirectionStatistics statistics;
};

/// The direction that `method` makes of pairs; hold_outs() says what is left out of further fits
/// for held_out_accuracy. A sign that is voted is that for which most pairs have P·v > N·v; a tie
/// keeps the sign in which the component of largest magnitude is positive. Throws Error that begins
/// with `where` for no pairs, widths that differ, values that are not finite, and a degenerate
/// case: all differences zero within the rounding of float32 activations, or what the method says.
Direction find_direction(const MethodInput& input, const Method& method, std::string_view where);

/// The same vector without its statistics, for who measures it otherwise [d]: float32 as above, but
/// what is made from activations with their side keeps its float64.
at::Tensor find_vector(const MethodInput& input, const Method& method, std::string_view where);

}  // namespace vyx::steering
