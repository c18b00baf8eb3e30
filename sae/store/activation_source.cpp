#include "sae/store/activation_source.h"

#include <ATen/Functions.h>

namespace vyx::sae {

SiteNorms norms_of(const at::Tensor& rows, const std::string& site) {
  const at::Tensor x = rows.to(at::kDouble), center = x.mean(0);  // [rows, width], [width]
  return {.site = site,
          .width = rows.size(1),
          .mean_norm = x.norm(2, {1}).mean().item<double>(),
          .center = center.norm().item<double>(),
          .deviation = (x - center).square().sum(1).mean().sqrt().item<double>()};
}

}  // namespace vyx::sae
