// What an objective is computed on, and what it is summed up in.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "sae/autoencoder/autoencoder.h"
#include "sae/objectives/objective.h"

namespace vyx::sae {

/// A batch as the kernels take it: float32, contiguous, checked.
struct Batch {
  Batch(const Autoencoder& sae, const ObjectiveInput& input);

  const Parameters& weights;
  int64_t size, d_in, d_out, latents;
  at::Tensor x;         // [size, d_in]
  at::Tensor centered;  // [size, d_in] what the encoder sees: x − b_dec, or x
  at::Tensor target;    // [size, d_out]
  at::Tensor base;  // [size, d_out], or [d_out] for all tokens: what a reconstruction starts from,
                    // b_dec (+ x·W_skipᵀ)
  bool bias_subtracted;
  std::vector<int64_t> sites;  // the decoder's columns by site: where each begins, and d_out
};

/// A token's mean loss has gradient 2·residual / batch.
inline float residual_scale(const Batch& batch) {
  return 2 / float(batch.size);
}

/// What is summed up over a latent's tokens, in their order: gradients, and its share of the loss.
struct LatentSums {
  double product = 0;  // of x·W_enc
  double bias = 0;     // of b_enc
  double norm = 0;     // of the decoder row's norm
  double threshold = 0;
  double step = 0;  // ∂Σ H(z − θ)/∂θ
  double magnitude_scale = 0, magnitude_bias = 0;
  double sparsity = 0, auxiliary = 0;
  int64_t fired = 0;
};

/// Decoder norms n [latents]; of several sites, the sum of each one's.
std::vector<float> decoder_norms(const Batch& batch);

/// Adds to the decoder's gradient what the losses' dependence on n gives: sums.norm·∂n/∂W_dec.
void add_norm_gradients(const Batch& batch, const std::vector<LatentSums>& sums,
                        Parameters& gradients);

/// Over tokens of rows [tokens, d], in float64: Σ x [d], and Σ ‖x‖².
struct RowSums {
  std::vector<double> columns;
  double squares = 0;
};
RowSums row_sums(const at::Tensor& rows);
/// E‖x‖² − ‖E x‖² of rows [tokens, d].
double variance_of(const at::Tensor& rows);

/// Gradients of the biases, of the skip connection and of what depends on sums alone.
/// `reconstruction` [batch, d_out] is the gradient of x̂.
void finish_gradients(const Batch& batch, const std::vector<LatentSums>& sums,
                      const at::Tensor& reconstruction, Parameters& gradients);

/// Fills in firings, l0 and the sums' shares of the loss.
void finish_result(const Batch& batch, const std::vector<LatentSums>& sums,
                   ObjectiveResult& result);

// The architectures' objectives. Gradients are allocated.
void topk_objective(const AutoencoderConfig& config, const Batch& batch, const at::Tensor& dead,
                    const ObjectiveOptions& options, ObjectiveResult& result,
                    Parameters& gradients);
void relu_objective(const Batch& batch, const ObjectiveOptions& options, ObjectiveResult& result,
                    Parameters& gradients);
void gated_objective(const Batch& batch, const ObjectiveOptions& options, ObjectiveResult& result,
                     Parameters& gradients);
void jump_relu_objective(const Batch& batch, const at::Tensor& dead,
                         const ObjectiveOptions& options, ObjectiveResult& result,
                         Parameters& gradients);

}  // namespace vyx::sae
