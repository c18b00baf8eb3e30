#include "steering/directions/principal_component.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <fmt/format.h>

#include <algorithm>
#include <limits>

namespace vyx::steering {
namespace {

// Two eigenvalues of a float64 decomposition that are closer than this are one.
constexpr double kEqualEigenvalues = 1e-10;

double largest(const at::Tensor& descending) {
  return descending.numel() > 0 ? descending[0].item<double>() : 0;
}

/// Of `rows` [pairs, d], which were made from `differences`.
Fit first_component(const at::Tensor& rows, const Differences& differences) {
  const auto [left, singular, right] = at::linalg_svd(rows, /*full_matrices=*/false);
  Fit result{right[0], singular.square()};
  if (largest(result.eigenvalues) <= differences.negligible()) {
    result.degenerate = fmt::format(
        "all {} differences are equal, so that nothing is left of them without their mean; use "
        "pca-center or mean",
        rows.size(0));
  } else if (eigengap(result.eigenvalues) < kEqualEigenvalues) {
    result.degenerate =
        "two directions explain the differences equally well; use more pairs, or mean";
  }
  return result;
}

}  // namespace

Fit pca_center(const Differences& differences) {
  return first_component(differences.rows, differences);
}

Fit pca_diff(const Differences& differences) {
  Fit fit = first_component(differences.rows - differences.rows.mean(0), differences);
  // Without their mean, n rows span n − 1 dimensions at most.
  fit.eigenvalues = fit.eigenvalues.slice(
      0, 0, std::max<int64_t>(1, std::min(fit.eigenvalues.numel(), differences.rows.size(0) - 1)));
  return fit;
}

double eigengap(const at::Tensor& eigenvalues) {
  if (eigenvalues.numel() < 2) return std::numeric_limits<double>::quiet_NaN();
  return 1 - eigenvalues[1].item<double>() / largest(eigenvalues);
}

}  // namespace vyx::steering
