// EleutherAI's sparsify (https://github.com/EleutherAI/sparsify): cfg.json and sae.safetensors;
// TopK autoencoders and transcoders.
#pragma once
#include <filesystem>

#include "sae/autoencoder/autoencoder.h"

namespace vyx::sae {

Autoencoder read_sparsify(const std::filesystem::path& folder);

/// Throws Error for what sparsify lacks: other architectures than topk, a norm per token,
/// outputs of another width.
void write_sparsify(const Autoencoder& sae, const std::filesystem::path& folder);

}  // namespace vyx::sae
