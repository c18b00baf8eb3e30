// SAELens's folders (https://github.com/jbloomAus/SAELens): cfg.json and sae_weights.safetensors.
// Also vyx's own format.
#pragma once
#include <filesystem>

#include "sae/autoencoder/autoencoder.h"

namespace vyx::sae {

/// Reads versions 3 to 6. What SAELens does in addition is folded into the weights:
/// rescale_acts_by_decoder_norm, the fine-tuning scaling factor. A BatchTopK autoencoder is one
/// again, though SAELens writes it as JumpReLU with one threshold. The rest of the config is kept
/// as metadata. Throws Error naming the file and what is wrong.
Autoencoder read_saelens(const std::filesystem::path& folder);

/// Writes version 6, making the folder where there is none. Normalization::scale is folded;
/// batch_topk becomes JumpReLU, as in SAELens. What SAELens lacks (transcoders of other
/// architectures than relu, jump_relu and batch_topk) is written all the same, under names that it
/// refuses. `sparsity`, log10 of how often each latent fires [latents], may be undefined.
void write_saelens(const Autoencoder& sae, const std::filesystem::path& folder,
                   const at::Tensor& sparsity = {});

}  // namespace vyx::sae
