// The output score: whether turning a latent up makes the model say what its decoder row promotes
// (Arad et al. 2025, arXiv:2505.20063).
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "models/language_model/language_model.h"
#include "sae/autoencoder/autoencoder.h"

namespace vyx::sae {

/// S = (1 − min rank / |V|) · max probability over `tokens` [n, k] int64, in `probabilities` [n,
/// vocabulary]; ranks count from 0. [n].
at::Tensor output_score(const at::Tensor& probabilities, const at::Tensor& tokens);

struct OutputScoreOptions {
  // How far a latent is raised: times the largest latent of the prompt's last token.
  double factor = 10;
  int64_t tokens = 20;  // of the decoder row's logit lens
  int64_t batch = 64;   // latents of one forward
};

/// Of `latents`, when each is raised alone at the last token of `prompt`, the error term kept:
/// [latents] float32. `promoted` has the latents' logit lens [latents, vocabulary]
/// (models/activations/logit_lens.h). Throws Error when no latent fires at that token.
at::Tensor output_scores(models::LanguageModel& model, const Autoencoder& sae, const Site& site,
                         std::span<const int64_t> latents, const at::Tensor& promoted,
                         const std::vector<models::TokenId>& prompt,
                         const OutputScoreOptions& options = {});

}  // namespace vyx::sae
