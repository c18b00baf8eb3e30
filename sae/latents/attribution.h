// What latents have to do with a scalar m of the model's output, to first order, from the gradient
// of m at their site.
#pragma once
#include <ATen/core/Tensor.h>

#include "sae/autoencoder/autoencoder.h"

namespace vyx::sae {

/// Σ over tokens of f_i · ∂m/∂f_i: how much of m is due to each latent, by the linear estimate of
/// what ablating it takes away, the error term kept (attribution patching, Nanda 2023; for latents,
/// Marks et al. 2024, arXiv:2403.19647). x and gradient ∂m/∂x [tokens, d]; [latents] float64.
at::Tensor attribution(const Autoencoder& sae, const at::Tensor& x, const at::Tensor& gradient);

/// Each latent's direction: its decoder row with norm 1 [latents, d]; a row of zeros stays.
at::Tensor decoder_directions(const Autoencoder& sae);

}  // namespace vyx::sae
