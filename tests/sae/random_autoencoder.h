// A small autoencoder of any architecture with seeded weights, in which some
// latents fire and some do not.
#pragma once
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <vector>

#include "sae/autoencoder/autoencoder.h"
#include "tests/random_tensors.h"

namespace vyx::test {

inline std::vector<sae::Architecture> all_architectures() {
  std::vector<sae::Architecture> all;
  for (const sae::ArchitectureTraits& each : sae::architectures()) all.push_back(each.architecture);
  return all;
}

inline sae::Autoencoder random_autoencoder(sae::Architecture architecture, int64_t width,
                                           int64_t latents, uint64_t seed = 1) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  const auto scaled_normal = [&](std::vector<int64_t> shape, double scale) {
    return at::randn(shape, generator) * scale;
  };
  sae::Autoencoder result;
  result.config.architecture = architecture;
  result.config.d_in = result.config.d_out = width;
  result.config.latents = latents;
  result.config.k = std::min<int64_t>(4, latents);
  sae::Parameters& w = result.weights;
  w.encoder = scaled_normal({latents, width}, 0.5);  // [latents, d_in]
  w.encoder_bias = scaled_normal({latents}, 0.1);    // [latents]
  w.decoder = scaled_normal({latents, width}, 0.5);  // [latents, d_out]
  w.decoder_bias = scaled_normal({width}, 0.2);      // [d_out]
  const sae::ArchitectureTraits& traits = sae::traits_of(architecture);
  if (traits.has_gate) {
    w.magnitude_scale = scaled_normal({latents}, 0.2);  // [latents]
    w.magnitude_bias = scaled_normal({latents}, 0.1);   // [latents]
  }
  if (traits.has_thresholds)
    w.threshold = at::rand({latents}, generator) * 0.5 + 0.05;  // [latents]
  return result;
}

}  // namespace vyx::test
