// x̂ from a sparse code, its error, and the gradients of both with respect to x̂ and the latents.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "sae/kernels/sparse_code.h"

namespace vyx::sae {

struct Reconstruction {
  /// Gradients [prefixes, batch, d_out] with respect to what latents of each group decode to: of
  /// the latents below prefixes[0], between prefixes[0] and [1], …; a lower latent is part of every
  /// longer prefix, so that group 0's is the gradient with respect to b_dec.
  at::Tensor gradients;
  std::vector<float> latents;  // [entries] of each f
  std::vector<double> errors;  // by prefix: Σ over the batch of ‖target − x̂‖²
  std::vector<int64_t> prefixes;

  /// Gradient rows [batch, d_out] of a latent's group.
  const float* gradients_of(int64_t latent) const;
};

/// f [entries]: the code's latents. base [batch, d_out] or [d_out]: what x̂ starts from; undefined:
/// 0. Each prefix' gradient is scale·(x̂ − target).
Reconstruction reconstruct(const SparseCode& code, const float* f, const at::Tensor& decoder,
                           const at::Tensor& base, const at::Tensor& target,
                           const std::vector<int64_t>& prefixes, float scale);

}  // namespace vyx::sae
