// A sparse autoencoder: activation x → latents f (few of them not zero) → reconstruction x̂.
//
//     x' = normalised x [.., d_in]             z = (x' − b_dec)·W_encᵀ + b_enc [.., latents]
//     f = activation(z) [.., latents]          x̂' = f·W_dec + b_dec (+ x'·W_skipᵀ) [.., d_out]; x̂ =
//     x̂' with the normalisation undone
//
// A transcoder is one whose target is another activation (d_out may differ from d_in; b_dec is then
// not subtracted); a crosscoder is one whose input and target are the activations of several sites,
// side by side.
#pragma once
#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/json_guard.h"

namespace vyx::sae {

enum class Architecture {
  relu,  // f = relu(z) (Bricken et al. 2023; loss and recipe of Anthropic, April 2024)
  gated,  // f = [π > 0]·relu((x' − b_dec)·(W_enc·e^r_mag)ᵀ + b_mag), π = z with b_gate as its bias
          // (Rajamanoharan et al. 2024, arXiv:2404.16014)
  topk,        // the k largest z of a token, relu (Gao et al. 2024, arXiv:2406.04093)
  batch_topk,  // the k·batch largest z of a batch, relu; a fixed threshold after training (Bussmann
               // et al. 2024, arXiv:2412.06410)
  jump_relu,  // f = z·[z > θ] (Rajamanoharan et al. 2024, arXiv:2407.14435)
};
std::string_view name_of(Architecture architecture);         // "batch-topk"
Architecture architecture_from_name(std::string_view name);  // throws UsageError listing them

/// What is done to x before the encoder and undone after the decoder.
enum class Normalization {
  none,
  scale,  // x·s with a fixed s, so that E‖x‖ = √d over the training data (can be folded into the
          // weights)
  token_norm,  // each token to norm √d (SAELens's constant_norm_rescale)
  layer_norm,  // each token to mean 0 and standard deviation 1, eps 1e-5 added to the deviation
               // (OpenAI)
};
std::string_view name_of(Normalization normalization);         // "token-norm"
Normalization normalization_from_name(std::string_view name);  // throws UsageError listing them

struct AutoencoderConfig {
  Architecture architecture = Architecture::topk;
  int64_t d_in = 0, d_out = 0, latents = 0;
  int64_t k = 32;                 // topk and batch_topk: latents a token (batch_topk: on average)
  std::vector<int64_t> prefixes;  // Matryoshka: numbers of latents that reconstruct on their own,
                                  // rising, the last = latents; empty: none
  bool subtract_decoder_bias = true;  // the encoder sees x' − b_dec
  Normalization normalization = Normalization::none;
  double scale = 1;  // s, for Normalization::scale
  std::vector<std::string>
      sites;  // whose activations x is made of, side by side; several: a crosscoder
  std::vector<std::string> target_sites;  // a transcoder's; empty: x itself is the target
  Json metadata = Json::object();  // provenance: model name and digest, training recipe, tokens
                                   // seen, …; kept, not interpreted
};
/// Throws Error naming `source` unless sizes are positive, k ≤ latents, prefixes rise to latents,
/// and so on.
void validate(const AutoencoderConfig& config, std::string_view source);

/// A tensor a kind of parameter; undefined where the architecture has none. Weights, their
/// gradients and an optimiser's moments are all of this shape. A latent's encoder and decoder rows
/// are contiguous: sparse kernels read and write rows.
struct Parameters {
  at::Tensor encoder;          // W_enc [latents, d_in]
  at::Tensor encoder_bias;     // b_enc [latents]; gated: b_gate
  at::Tensor decoder;          // W_dec [latents, d_out]
  at::Tensor decoder_bias;     // b_dec [d_out]
  at::Tensor magnitude_scale;  // gated: r_mag [latents]
  at::Tensor magnitude_bias;   // gated: b_mag [latents]
  at::Tensor threshold;        // jump_relu: θ [latents], positive
  at::Tensor skip;             // W_skip [d_out, d_in]

  /// Calls visit(name, tensor) for each that is defined, by SAELens's names ("W_enc", …), in the
  /// order above.
  template <class Visit>
  void visit(Visit&& visit) const {
    visit_defined(*this, visit);
  }
  template <class Visit>
  void visit(Visit&& visit) {
    visit_defined(*this, visit);
  }

 private:
  template <class Self, class Visit>
  static void visit_defined(Self& self, Visit& visit) {
    const std::pair<const char*, decltype(&self.encoder)> all[] = {
        {"W_enc", &self.encoder},         {"b_enc", &self.encoder_bias},
        {"W_dec", &self.decoder},         {"b_dec", &self.decoder_bias},
        {"r_mag", &self.magnitude_scale}, {"b_mag", &self.magnitude_bias},
        {"threshold", &self.threshold},   {"W_skip", &self.skip}};
    for (const auto& [name, tensor] : all)
      if (tensor->defined()) visit(name, *tensor);
  }
};

struct Autoencoder {
  AutoencoderConfig config;
  Parameters weights;         // float32
  double topk_threshold = 0;  // batch_topk after training: f = z·[z > threshold]
};
/// Throws Error naming `source`, the tensor, its shape and the expected one.
void validate(const Autoencoder& sae, std::string_view source);

/// x in the form that the encoder sees, and what brings a reconstruction back: x̂ = x̂'·spread +
/// center.
struct Normalized {
  at::Tensor x;               // x' [.., d]
  at::Tensor center, spread;  // [.., 1]; undefined: 0, 1
};
Normalized normalize(const AutoencoderConfig& config, const at::Tensor& x);

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
/// b_dec/s; thresholds as they are).
Autoencoder fold_scale(const Autoencoder& sae);

}  // namespace vyx::sae
