#include "core/edits/implicit_statistics.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "core/base/error.h"

namespace vyx {

ImplicitStatistics implicit_statistics(const at::Tensor& v) {
  if (v.dim() != 2 || v.numel() == 0)
    fail("implicit vectors [{}], expected [tokens, d] with at least one",
         fmt::join(v.sizes(), ", "));
  const at::Tensor wide = v.detach().to(at::kCPU, at::kDouble);  // [tokens, d]
  if (!wide.isfinite().all().item<bool>())
    fail("the implicit vectors hold NaN or infinity, expected finite numbers");
  const at::Tensor mean = wide.mean(0);                                     // [d]
  const at::Tensor squares = wide.square().sum(1), norms = squares.sqrt();  // [tokens]
  const double mean_norm = mean.norm().item<double>(), mean_square = squares.mean().item<double>();
  const at::Tensor lengths = norms * mean_norm;  // [tokens]
  const at::Tensor cosines = at::where(lengths > 0, at::mv(wide, mean) / lengths.clamp_min(1e-300),
                                       at::zeros_like(lengths));
  const int64_t moved = (norms > 0).sum().item<int64_t>();
  return {.tokens = v.size(0),
          .mean = mean.to(at::kFloat),
          .norms = norms.to(at::kFloat),
          .cosines = cosines.to(at::kFloat),
          .mean_norm = mean_norm,
          .rms_norm = std::sqrt(mean_square),
          .spread = mean_square > 0 ? std::max(0.0, 1 - mean_norm * mean_norm / mean_square) : 0,
          .mean_cosine = moved > 0 ? cosines.sum().item<double>() / static_cast<double>(moved) : 0};
}

}  // namespace vyx
