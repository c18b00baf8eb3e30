// Where training starts: weights from a seed, the bias from the data; and how latents that never
// fire start again.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>

#include "sae/autoencoder/autoencoder.h"
#include "sae/training/adam.h"

namespace vyx::sae {

struct InitializeOptions {
  uint64_t seed = 0;
  /// W_enc = W_dec (Gao et al. 2024; Anthropic, April 2024), where the widths allow it; else
  /// uniform in ±1/√d_in, as torch's Linear.
  bool tied = true;
  /// Of each decoder row, whose direction is random: 1 with a decoder of unit norm, 0.1 for relu
  /// (Anthropic, April 2024).
  double decoder_norm = 1;
  double threshold = 0.001;  // jump_relu: θ (dictionary_learning)
  bool skip = false;         // transcoders: W_skip, of zeros
};

/// An autoencoder of random weights and zero biases; throws Error for a config that `validate`
/// refuses. The same seed gives the same bits.
Autoencoder initialize(const AutoencoderConfig& config, const InitializeOptions& options);

/// The point [d] with the least sum of distances to rows [rows, d]: the usual b_dec (Bricken et al.
/// 2023), which outliers hardly move. Weiszfeld's algorithm, until a step is below 1e-6 of the
/// first distance or 100 are made. Does not depend on the number of threads.
at::Tensor geometric_median(const at::Tensor& rows);

struct ResampleOptions {
  uint64_t seed = 0;           // of this resampling: another one each time
  double encoder_scale = 0.2;  // of the mean norm of encoder rows that are alive
  double decoder_norm = 1;
  double threshold = 0.001;  // jump_relu: θ
};

/// Starts dead latents again (Bricken et al. 2023; dictionary_learning): each takes one of the rows
/// of x [rows, d_in] (as normalised), drawn without replacement and in proportion to its error
/// ‖target − x̂‖: its decoder row becomes the target's direction, its encoder row x's, of
/// `encoder_scale` times the mean norm of those alive; both as seen from b_dec if the encoder
/// subtracts it. Biases become 0, Adam's moments too. `target` [rows, d_out]; undefined: x. `dead`
/// [latents] bool. Returns how many were started again: no more than there are rows.
int64_t resample_dead(Autoencoder& sae, Adam& adam, const at::Tensor& x, const at::Tensor& target,
                      const at::Tensor& dead, const ResampleOptions& options);

}  // namespace vyx::sae
