// The direction that separates two sets of activations. Pure linear algebra, in float64,
// deterministic.
#pragma once
#include <ATen/core/Tensor.h>

#include <string_view>
#include <vector>

namespace vyx::steering {

/// How a direction is made from n pairs of activations P, N [n, d], with D = P − N.
enum class Method {
  pca_center,  // first right singular vector of D: the rows ±D/2, uncentred (repeng's pca_center);
               // unit norm
  pca_diff,  // the same of D with its mean removed (repeng's pca_diff), so that the mean difference
             // is lost; unit norm
  mean,      // mean of D, magnitude kept (CAA, Rimsky et al. 2023, arXiv:2312.06681)
};
std::string_view name_of(Method method);         // "pca-center"
Method method_from_name(std::string_view name);  // throws UsageError listing the methods

struct DirectionStatistics {
  std::vector<double> eigenvalues;  // of DᵀD (centred for pca_diff), the largest first, at most 8
  double eigengap = 0;              // 1 − λ2/λ1 in [0, 1]: near 0, the direction is one of many
  double sign_vote_margin = 0;  // (pairs with P·v > N·v − pairs with P·v < N·v) / n: near 0, the
                                // sign is a guess; below 0 only for `mean`
  double held_out_accuracy = 0;  // share of pairs left out of a second fit whose P·v > N·v; NaN
                                 // when there are too few pairs
  double median_norm = 0;        // of all activations: what a coefficient is to be compared with
};

struct Direction {
  at::Tensor vector;  // [d] float32
  DirectionStatistics statistics;
};

/// The direction of P and N, both [n, d]; every fifth pair is left out of a second fit for
/// held_out_accuracy. The sign is that for which most pairs have P·v > N·v; a tie keeps the sign in
/// which the component of largest magnitude is positive. `mean` has a sign of its own and keeps it.
/// Throws Error that begins with `where` for no pairs, widths that differ, values that are not
/// finite, and a degenerate case: all differences zero within the rounding of float32 activations;
/// for pca_diff, all equal; for mean, cancelling out; two equal first eigenvalues.
Direction find_direction(const at::Tensor& positive, const at::Tensor& negative, Method method,
                         std::string_view where);

}  // namespace vyx::steering
