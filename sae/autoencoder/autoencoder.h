// A sparse autoencoder: activation x → latents f (few of them not zero) → reconstruction x̂.
//
//     x' = normalised x [.., d_in]        z = (x' − b_dec)·W_encᵀ + b_enc [.., latents]
//     f = activation(z) [.., latents]     x̂' = f·W_dec + b_dec (+ x'·W_skipᵀ) [.., d_out]
//
// and x̂ is x̂' with the normalisation undone.
// A transcoder is one whose target is another activation (d_out may differ from d_in; b_dec is then
// not subtracted); a crosscoder is one whose input and target are the activations of several sites,
// side by side.
#pragma once
#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/json_guard.h"
#include "sae/autoencoder/architecture.h"
#include "sae/autoencoder/parameters.h"

namespace vyx::sae {

struct AutoencoderConfig {
  Architecture architecture = Architecture::topk;
  int64_t d_in = 0, d_out = 0, latents = 0;
  int64_t k = 32;  // topk and batch_topk: latents per token (batch_topk: on average)
  /// Matryoshka: numbers of latents that reconstruct on their own, rising, the last = latents;
  /// empty: none.
  std::vector<int64_t> prefixes;
  bool subtract_decoder_bias = true;  // the encoder sees x' − b_dec
  Normalization normalization = Normalization::none;
  /// s, for Normalization::scale: one for each of the sites, or one for all.
  std::vector<double> scales = {1};
  std::vector<double> target_scales;  // likewise, of a transcoder's target; empty: x's
  /// Whose activations x is made of, side by side; several: a crosscoder.
  std::vector<std::string> sites;
  std::vector<std::string> target_sites;  // a transcoder's; empty: x itself is the target
  /// Provenance: model name and digest, training recipe, tokens seen, …; kept, not interpreted.
  Json metadata = Json::object();
};
/// Throws Error naming `source` unless sizes are positive, k ≤ latents, prefixes rise to latents,
/// and so on.
void validate(const AutoencoderConfig& config, std::string_view source);

struct Autoencoder {
  AutoencoderConfig config;
  Parameters weights;         // float32
  double topk_threshold = 0;  // batch_topk after training: f = z·[z > threshold]
};
/// Throws Error naming `source`, the tensor, its shape and the expected one.
void validate(const Autoencoder& sae, std::string_view source);

/// x' [.., d]: x [.., d] in the form that the encoder sees.
at::Tensor normalized(const AutoencoderConfig& config, const at::Tensor& x);
/// The same of what x̂' is to be, of target [.., d_out].
at::Tensor normalized_target(const AutoencoderConfig& config, const at::Tensor& target);
/// What a unit of x̂' is in x̂, for x [.., d]: [.., 1], a scalar, or [d_out] where sites have scales
/// of their own; undefined: 1.
at::Tensor spread(const AutoencoderConfig& config, const at::Tensor& x);
/// θ [latents] of an autoencoder whose latents fire each above its own or a common threshold, 0 for
/// one that keeps what is positive (f = z·[z > θ]); undefined where that is not what they do.
at::Tensor thresholds(const Autoencoder& sae);

/// Latents f [.., latents] of x [.., d_in], dense. For inference: batch_topk uses its threshold.
at::Tensor encode(const Autoencoder& sae, const at::Tensor& x);
/// Reconstruction x̂ [.., d_out] of latents f [.., latents] and of the x [.., d_in] that they came
/// from: token_norm and layer_norm need its norm, a skip connection x itself. `x` may be undefined
/// when neither is there.
at::Tensor decode(const Autoencoder& sae, const at::Tensor& f, const at::Tensor& x = {});
/// Rows x [n, d_in] in parts (views) whose dense latents take 64 MiB at most, so that a caller may
/// encode one after the other.
std::vector<at::Tensor> encodable_parts(const Autoencoder& sae, const at::Tensor& x);
/// decode(encode(x), x) without a dense [.., latents] for all of x at once.
at::Tensor reconstruct(const Autoencoder& sae, const at::Tensor& x);

/// The same autoencoder on `device`; shares the tensors that are there already.
Autoencoder to_device(const Autoencoder& sae, c10::Device device);
/// The same autoencoder with Normalization::scale folded into its weights (W_enc·s, W_dec/s,
/// b_dec/s, W_skip·s/s; thresholds as they are).
Autoencoder fold_scale(const Autoencoder& sae);

}  // namespace vyx::sae
