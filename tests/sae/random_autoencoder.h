// A small autoencoder of any architecture with seeded random weights, in which some latents fire
// and some do not.
#pragma once
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include "sae/autoencoder/autoencoder.h"

namespace vyx::test {

inline sae::Autoencoder random_autoencoder(sae::Architecture architecture, int64_t width,
                                           int64_t latents, uint64_t seed = 1) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  const auto normal = [&](std::vector<int64_t> shape, double scale) {
    return at::randn(shape, generator) * scale;
  };
  sae::Autoencoder result;
  result.config.architecture = architecture;
  result.config.d_in = result.config.d_out = width;
  result.config.latents = latents;
  result.config.k = std::min<int64_t>(4, latents);
  sae::Parameters& w = result.weights;
  w.encoder = normal({latents, width}, 0.5);  // [latents, d_in]
  w.encoder_bias = normal({latents}, 0.1);    // [latents]
  w.decoder = normal({latents, width}, 0.5);  // [latents, d_out]
  w.decoder_bias = normal({width}, 0.2);      // [d_out]
  if (architecture == sae::Architecture::gated) {
    w.magnitude_scale = normal({latents}, 0.2);  // [latents]
    w.magnitude_bias = normal({latents}, 0.1);   // [latents]
  }
  if (architecture == sae::Architecture::jump_relu)
    w.threshold = at::rand({latents}, generator) * 0.5 + 0.05;  // [latents]
  return result;
}

}  // namespace vyx::test
