// The architectures that an autoencoder may have and the ways to normalise what it reads: their
// names, and in one table what sets an architecture apart beside its formula (formulas.cpp).
#pragma once
#include <span>
#include <string>
#include <string_view>

namespace vyx::sae {

enum class Architecture {
  relu,  // f = relu(z) (Bricken et al. 2023; loss and recipe of Anthropic, April 2024)
  gated,  // f = [π > 0]·relu((x' − b_dec)·(W_enc·e^r_mag)ᵀ + b_mag), π = z with b_gate as its
          // bias (Rajamanoharan et al. 2024, arXiv:2404.16014)
  topk,        // the k largest z of a token, relu (Gao et al. 2024, arXiv:2406.04093)
  batch_topk,  // the k·batch largest z of a batch, relu; a fixed threshold after training (Bussmann
               // et al. 2024, arXiv:2412.06410)
  jump_relu,  // f = z·[z > θ] (Rajamanoharan et al. 2024, arXiv:2407.14435)
};

struct ArchitectureTraits {
  Architecture architecture;
  std::string_view name;             // in options, records and reports
  std::string_view saelens_name;     // in SAELens's files
  bool has_gate = false;             // r_mag and b_mag; b_enc is then the gate's, b_gate
  bool has_thresholds = false;       // θ of each latent, trained
  bool has_batch_threshold = false;  // one for all latents, which follows the batches
  bool has_k = false;                // k latents per token, and AuxK for latents that died
  bool has_penalty = false;          // λ, for latents that fire
  bool has_prefixes = false;         // may be Matryoshka's
  // A latent's f depends on other latents' z, so that an edit of one encodes them all. Where it
  // does not, f is a ramp: slope·relu(z − start) + jump·[z > start] (edits/latent_edit.cpp).
  bool latents_compete = false;
};

/// All of them.
std::span<const ArchitectureTraits> architectures();
const ArchitectureTraits& traits_of(Architecture architecture);
std::string_view name_of(Architecture architecture);         // "batch-topk"
Architecture architecture_from_name(std::string_view name);  // throws UsageError listing them
/// "topk, batch-topk": the names of those that have the trait; null: of all.
std::string architecture_names(bool ArchitectureTraits::*trait = nullptr);

/// What is done to x before the encoder and undone after the decoder.
enum class Normalization {
  none,
  scale,  // x·s with a fixed s for each site, so that E‖x‖ = √d over the training data (can be
          // folded into the weights)
  token_norm,  // each token to norm √d (SAELens's constant_norm_rescale)
  layer_norm,  // each token to mean 0 and standard deviation 1, eps 1e-5 added to the deviation
               // (OpenAI)
};
std::string_view name_of(Normalization normalization);         // "token-norm"
Normalization normalization_from_name(std::string_view name);  // throws UsageError listing them
/// Whether each token has a scale of its own.
bool is_per_token(Normalization normalization);

}  // namespace vyx::sae
