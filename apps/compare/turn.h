// Random rotations, for nulls: of vectors, and of a dictionary within the spread of activations.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>

#include "sae/autoencoder/autoencoder.h"

namespace vyx::compare {

/// Q [d, d] float64, each rotation or reflection as likely as any other (Haar).
at::Tensor random_rotation(int64_t width, uint64_t seed);

/// Mean and covariance of activations, the covariance shrunk towards a multiple of the identity
/// as far as its rows are too few (Ledoit and Wolf 2004, A well-conditioned estimator).
struct Spread {
  at::Tensor center;              // x̄ [d] float64
  at::Tensor root, inverse_root;  // Σ^½, Σ^−½ [d, d] float64
};
Spread spread_of(const at::Tensor& rows);  // [n, d]

/// Whether `turned` can be made: a norm of each token's own does not turn with it.
bool can_turn(const sae::Autoencoder& sae);

/// The same dictionary, looked at from activations that are turned within their spread:
///
///     z = x̄ + A(x − x̄)     A = Σ^½ Q Σ^−½     y = x̄ + A⁻¹(edit(z) − x̄)
///
/// z has the mean and the covariance of x, so that latents fire as often and as strongly, and none
/// of them has to do with what x means. It is an autoencoder again, of rows W_enc A and W_dec A⁻ᵀ.
sae::Autoencoder turned(const sae::Autoencoder& sae, const Spread& spread,
                        const at::Tensor& rotation);

}  // namespace vyx::compare
