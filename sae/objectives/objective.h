// The loss of an autoencoder on a batch and its gradients, written out by hand: everything but the
// encoder is sparse.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string_view>

#include "sae/autoencoder/autoencoder.h"

namespace vyx::sae {

/// How JumpReLU's sparsity is counted.
enum class JumpReluSparsity {
  l0,         // λ·Σ H(z − θ) (DeepMind, arXiv:2407.14435)
  l0_target,  // λ·(L0/target − 1)² on the batch's mean L0
  tanh,  // λ·Σ tanh(c·f_i·n_i), with a pre-activation loss for latents that do not fire (Anthropic,
         // January 2025)
};

/// What the loss is, beside the architecture. 0 means "derived" where it says so. Defaults: the
/// published recipe of each (recipe.h).
struct ObjectiveOptions {
  double sparsity = 0;  // λ of relu, gated, jump_relu, at this step (a warm-up is the trainer's)
  // topk, batch_topk: weight α of AuxK, the error's reconstruction by dead latents, both errors
  // over the variance of what they reconstruct.
  double auxiliary = 1.0 / 32;
  int64_t auxiliary_k = 0;  // its k; 0: d_in / 2
  JumpReluSparsity jump_relu = JumpReluSparsity::l0;
  double bandwidth = 0.001;             // ε of the straight-through estimator
  bool straight_through_input = false;  // the estimator's gradient goes to z too (Anthropic), not
                                        // to θ alone (DeepMind); not with l0_target
  double l0_target = 20;                // for JumpReluSparsity::l0_target
  double tanh_scale = 4;                // c
  double pre_activation = 3e-6;         // λ_P, with tanh: λ_P·E Σ relu(θ_i − z_i)·n_i
  // … over ObjectiveInput::dead only (SAELens); else over all latents (Anthropic).
  bool pre_activation_of_dead = false;
  /// gated: whether the auxiliary loss trains W_dec and b_dec too (SAELens), or takes them as fixed
  /// (the paper, dictionary_learning).
  bool gated_auxiliary_trains_decoder = false;
  // The encoder's matrix products in bfloat16; masters, sums and gradients stay float32.
  bool bfloat16 = false;
};

struct ObjectiveInput {
  at::Tensor x;  // [batch, d_in], as normalised for the autoencoder (normalisation is the caller's)
  at::Tensor target;  // [batch, d_out]; undefined: x
  at::Tensor dead;    // [latents] bool: which latents AuxK may use; undefined: none is dead
};

/// Sums are in float64, in a fixed order.
struct ObjectiveResult {
  double loss = 0;            // what is minimised: mean over the batch
  double reconstruction = 0;  // E‖x − x̂‖² (for Matryoshka of the whole dictionary)
  double sparsity = 0;        // λ's term
  double auxiliary = 0;       // AuxK's, the gated auxiliary, the pre-activation loss
  double l0 = 0;              // latents that fired per token
  // E‖x‖² − ‖E x‖² of the target: explained variance = 1 − reconstruction / variance.
  double variance = 0;
  double lowest_activation = 0;  // batch_topk: the smallest f > 0, which its threshold follows
  at::Tensor firings;            // [latents] int64: on how many tokens of the batch each fired
};

/// The loss on `input`, and its gradients with respect to every parameter written into `gradients`
/// (allocated like the weights when undefined, overwritten otherwise). The result does not depend
/// on the number of threads, bit for bit. Memory: no dense [batch, latents] is kept.
ObjectiveResult loss_and_gradients(const Autoencoder& sae, const ObjectiveInput& input,
                                   const ObjectiveOptions& options, Parameters& gradients);

}  // namespace vyx::sae
