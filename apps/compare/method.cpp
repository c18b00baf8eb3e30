#include "apps/compare/method.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <cmath>
#include <utility>

#include "core/base/error.h"
#include "sae/edits/latent_edit.h"
#include "steering/directions/direction.h"

namespace vyx::compare {
namespace {

at::Tensor normal(at::IntArrayRef shape, uint64_t seed) {
  return at::randn(shape, at::detail::createCPUGenerator(seed), at::TensorOptions(at::kDouble));
}

}  // namespace

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

std::vector<Method> extract_directions(
    const steering::MethodInput& inputs,
    const std::function<void(const std::string&)>& on_degenerate) {
  std::vector<Method> methods;
  for (const steering::Method& row : steering::methods()) {
    try {
      methods.push_back(direction_method(
          std::string(row.name), steering::find_vector(inputs, row, row.name), inputs.median_norm));
      methods.back().ignores_sides = row.ignores_sides;
    } catch (const Error& error) {
      if (on_degenerate) on_degenerate(error.what());
    }
  }
  return methods;
}

at::Tensor isotropic_vectors(int64_t count, int64_t width, uint64_t seed) {
  return normal({count, width}, seed);
}

at::Tensor covariance_matched_vectors(int64_t count, const at::Tensor& rows, uint64_t seed) {
  const at::Tensor wide = rows.cpu().to(at::kDouble);  // [n, d]
  return normal({count, wide.size(0)}, seed).mm(wide - wide.mean(0));
}

sae::Autoencoder frozen_random(const sae::Autoencoder& sae, uint64_t seed) {
  sae::Autoencoder random = sae;
  const auto replaced = [](const at::Tensor& rows, uint64_t stream) {  // [latents, d]
    const at::Tensor drawn = normal(rows.sizes(), stream);
    return (drawn * (rows.to(at::kDouble).norm(2, {1}, true) / drawn.norm(2, {1}, true)))
        .to(rows.scalar_type());
  };
  random.weights.encoder = replaced(sae.weights.encoder, 2 * seed);
  random.weights.decoder = replaced(sae.weights.decoder, 2 * seed + 1);
  return random;
}

}  // namespace vyx::compare
