// The first principal component of the differences of pairs, by SVD in float64.
#pragma once
#include "steering/directions/methods.h"

namespace vyx::steering {

/// The first right singular vector of D: the rows ±D/2, uncentred (repeng's pca_center). Unit norm,
/// without a sign of its own. Degenerate where the two largest eigenvalues are equal.
Fit pca_center(const Differences& differences);
/// The same of D with its mean removed (repeng's pca_diff), so that the mean difference is lost.
/// Degenerate where all differences are equal, too.
Fit pca_diff(const Differences& differences);

/// 1 − λ2/λ1 of eigenvalues [n], the largest first: in [0, 1]; NaN where there is only one.
double eigengap(const at::Tensor& eigenvalues);

}  // namespace vyx::steering
