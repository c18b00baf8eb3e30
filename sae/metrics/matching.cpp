#include "sae/metrics/matching.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <fmt/ranges.h>

#include <tuple>
#include <utility>

#include "core/base/error.h"
#include "sae/metrics/assignment.h"

namespace vyx::sae {
namespace {

at::Tensor unit_rows(const at::Tensor& rows) {  // [rows, d] float32
  const at::Tensor wide = rows.to(at::kDouble);
  const at::Tensor norms = wide.norm(2, {1}, /*keepdim=*/true);  // [rows, 1]
  return (wide / norms.clamp_min(1e-300)).to(at::kFloat);
}

/// a / b where b > 0, otherwise 0.
at::Tensor ratio(const at::Tensor& a, const at::Tensor& b) {
  return at::where(b > 0, a.to(at::kDouble) / b, at::zeros({}, at::kDouble));
}

}  // namespace

Matching match(const at::Tensor& latents, const at::Tensor& features) {
  if (latents.dim() != 2 || features.dim() != 2 || latents.size(1) != features.size(1) ||
      latents.numel() == 0 || features.numel() == 0) {
    fail(
        "latents of shape [{}] to match with features of shape [{}]; expected [latents, d] and "
        "[features, d], none of them 0",
        fmt::join(latents.sizes(), ", "), fmt::join(features.sizes(), ", "));
  }
  const at::NoGradGuard no_grad;
  const at::Tensor cosines =
      at::mm(unit_rows(latents), unit_rows(features).t()).abs_();  // [latents, features]

  Matching result;
  std::tie(result.nearest_cosine, result.nearest) = cosines.max(1);
  result.mean_max_cosine = cosines.amax(0).mean(at::kDouble).item<double>();
  result.uniqueness = static_cast<double>(std::get<0>(at::_unique(result.nearest)).size(0)) /
                      static_cast<double>(latents.size(0));

  result.matched = at::tensor(assign(cosines.neg()), at::kLong);
  const at::Tensor paired = at::nonzero(result.matched >= 0).squeeze(1);  // [pairs]
  result.mean_matched_cosine =
      cosines.index({paired, result.matched.index({paired})}).mean(at::kDouble).item<double>();
  return result;
}

DetectionCounter::DetectionCounter(at::Tensor feature_of)
    : feature_of_(std::move(feature_of)),
      hits_(at::zeros_like(feature_of_)),
      firings_(at::zeros_like(feature_of_)),
      present_(at::zeros_like(feature_of_)) {}

void DetectionCounter::add(const at::Tensor& f, const at::Tensor& a) {
  const at::NoGradGuard no_grad;
  const at::Tensor fired = f > 0;                                   // [tokens, latents]
  const at::Tensor present = (a > 0).index_select(1, feature_of_);  // [tokens, latents]
  hits_ += (fired & present).sum(0);
  firings_ += fired.sum(0);
  present_ += present.sum(0);
}

Detection DetectionCounter::result() const {
  Detection result{.precision = ratio(hits_, firings_),
                   .recall = ratio(hits_, present_),
                   .f1 = ratio(2 * hits_, firings_ + present_)};
  result.mean_precision = result.precision.mean().item<double>();
  result.mean_recall = result.recall.mean().item<double>();
  result.mean_f1 = result.f1.mean().item<double>();
  return result;
}

}  // namespace vyx::sae
