#include "apps/compare/turn.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <algorithm>

#include "core/base/error.h"

namespace vyx::compare {
namespace {

/// How much of the covariance S [d, d] of `centered` rows [n, d] gives way to its mean variance.
double shrinkage(const at::Tensor& centered, const at::Tensor& covariance) {
  const auto n = static_cast<double>(centered.size(0));
  const double mean_variance = covariance.diagonal().mean().item<double>();
  const double squares = covariance.square().sum().item<double>();
  const double from_identity =
      squares - static_cast<double>(centered.size(1)) * mean_variance * mean_variance;
  const double noise = (centered.square().sum(1).square().mean().item<double>() - squares) / n;
  return from_identity > 0 ? std::clamp(noise / from_identity, 0.0, 1.0) : 1;
}

}  // namespace

at::Tensor random_rotation(int64_t width, uint64_t seed) {
  const auto [q, r] = at::linalg_qr(at::randn({width, width}, at::detail::createCPUGenerator(seed),
                                              at::TensorOptions(at::kDouble)));
  return q * r.diagonal().sign();  // without it QR's own choice of signs would show
}

Spread spread_of(const at::Tensor& rows) {
  const at::Tensor wide = rows.detach().cpu().to(at::kDouble);  // [n, d]
  Spread spread{.center = wide.mean(0), .root = {}, .inverse_root = {}};
  const at::Tensor centered = wide - spread.center;
  at::Tensor covariance = centered.t().mm(centered) / wide.size(0);  // [d, d]
  const double share = shrinkage(centered, covariance);
  const double floor = covariance.diagonal().mean().item<double>();
  if (!(floor > 0)) fail("found activations that are all equal, expected some that differ");
  covariance = covariance * (1 - share);
  covariance.diagonal().add_(std::max(share, 1e-6) * floor);
  const auto [values, vectors] = at::linalg_eigh(covariance);  // [d], [d, d]
  const at::Tensor roots = values.clamp_min(1e-12 * floor).sqrt();
  spread.root = (vectors * roots).mm(vectors.t());
  spread.inverse_root = (vectors / roots).mm(vectors.t());
  return spread;
}

bool can_turn(const sae::Autoencoder& sae) {
  return !is_per_token(sae.config.normalization);
}

sae::Autoencoder turned(const sae::Autoencoder& sae, const Spread& spread,
                        const at::Tensor& rotation) {
  const at::Tensor there = spread.root.mm(rotation).mm(spread.inverse_root);     // A [d, d]
  const at::Tensor back = spread.root.mm(rotation.t()).mm(spread.inverse_root);  // A⁻¹ [d, d]
  const at::Tensor center = normalized(sae.config, spread.center);               // x̄′ [d]
  const auto like = [](const at::Tensor& value, const at::Tensor& was) {
    return value.to(was.scalar_type()).contiguous();
  };
  sae::Autoencoder result = sae;
  const sae::Parameters& w = sae.weights;
  const at::Tensor encoder = w.encoder.to(at::kDouble);    // [latents, d]
  const at::Tensor bias = w.decoder_bias.to(at::kDouble);  // [d]
  result.weights.encoder = like(encoder.mm(there), w.encoder);
  result.weights.decoder = like(w.decoder.to(at::kDouble).mm(back.t()), w.decoder);
  result.weights.decoder_bias = like(center + back.mv(bias - center), w.decoder_bias);
  if (sae.config.subtract_decoder_bias) return result;
  // Of W_enc z = W_enc A x + W_enc (x̄ − A x̄): the second part.
  const at::Tensor shift = encoder.mv(center - there.mv(center));  // [latents]
  const auto add = [&](at::Tensor& values) {
    if (values.defined()) values = like(values.to(at::kDouble) + shift, values);
  };
  add(result.weights.encoder_bias);
  if (w.magnitude_bias.defined())
    result.weights.magnitude_bias =
        like(w.magnitude_bias.to(at::kDouble) + shift * w.magnitude_scale.to(at::kDouble).exp(),
             w.magnitude_bias);
  return result;
}

}  // namespace vyx::compare
