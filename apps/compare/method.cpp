#include "apps/compare/method.h"

#include <ATen/TensorOperators.h>

#include <cmath>
#include <utility>

#include "core/base/error.h"
#include "sae/edits/latent_edit.h"

namespace vyx::compare {
std::string_view name_of(Family family) {
  return family == Family::direction ? "direction" : "latent";
}

std::string_view dose_unit(Family family) {
  return family == Family::direction ? "median activation norms"
                                     : "of the latent's largest activation";
}

double first_dose(Family family) {
  return family == Family::direction ? 0.3 : 1;
}

Method direction_method(std::string name, const at::Tensor& vector, double median_norm) {
  const at::Tensor wide = vector.detach().cpu().to(at::kDouble);
  const double norm = wide.norm().item<double>();
  if (!(norm > 0) || !std::isfinite(norm))
    fail("{}: found a direction of norm {}, expected one that is not zero", name, norm);
  const at::Tensor unit = wide / norm;  // [d]
  return {.name = std::move(name),
          .family = Family::direction,
          .direction = unit,
          .edit = [unit, median_norm](double dose) {
            return Edit({Term::add(unit * (dose * median_norm))});
          }};
}

Method latent_method(std::string name, const sae::Autoencoder& sae, std::vector<int64_t> latents,
                     const at::Tensor& largest) {
  std::vector<double> values;
  for (const int64_t latent : latents) values.push_back(largest[latent].item<double>());
  Method method{.name = std::move(name), .family = Family::latent, .latents = latents};
  method.edit = [sae, latents = std::move(latents), values = std::move(values)](double dose) {
    std::vector<sae::LatentChange> changes;
    for (size_t i = 0; i < latents.size(); ++i)
      changes.push_back(
          {.latent = latents[i], .kind = sae::LatentChange::Kind::set, .value = dose * values[i]});
    return sae::edit_latents(sae, changes);
  };
  return method;
}

}  // namespace vyx::compare
