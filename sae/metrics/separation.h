// How well each latent tells two sets of activations apart.
#pragma once
#include <ATen/core/Tensor.h>

#include <span>

namespace vyx::sae {

struct Separation {
  at::Tensor
      difference;    // [latents] float32: mean of the positive side − mean of the negative side
  at::Tensor auroc;  // [latents] float32: probability that a positive value is above a negative
                     // one, ties counting half
};

/// Of latents `positive` [p, latents] and `negative` [n, latents], float32. Throws Error when a
/// side has no row or the widths differ.
Separation separation(const at::Tensor& positive, const at::Tensor& negative);

/// The area under the curve of one number per activation: the probability that a positive value is
/// above a negative one, ties counting half. NaN when a side is empty.
double auroc(std::span<const double> positive, std::span<const double> negative);

}  // namespace vyx::sae
