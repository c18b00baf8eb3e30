// Latents in the order of a score.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace vyx::sae {

/// Latents by falling `scores` [latents] float64; NaN (not measured) is left out. Ties by falling
/// `ties` [latents] when it is defined, then by number.
std::vector<int64_t> descending(const at::Tensor& scores, const at::Tensor& ties = {});

/// Each latent's place in an order, from 1; 0 for one that is not in it. [latents].
std::vector<int64_t> places_in(const std::vector<int64_t>& order, int64_t latents);

}  // namespace vyx::sae
