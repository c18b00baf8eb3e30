// Gemma Scope (Lieberum et al. 2024, arXiv:2408.05147): JumpReLU autoencoders and transcoders in
// params.npz; Gemma Scope 2 in params.safetensors, with config.json beside it and an affine skip
// connection where there is one.
#pragma once
#include <filesystem>

#include "sae/autoencoder/autoencoder.h"

namespace vyx::sae {

/// `path` is the folder, or its params.npz or params.safetensors.
Autoencoder read_gemma_scope(const std::filesystem::path& path);

enum class GemmaScope { npz, safetensors };
/// Throws Error for what it lacks: topk, gated, a norm per token; a skip connection in params.npz.
void write_gemma_scope(const Autoencoder& sae, const std::filesystem::path& folder,
                       GemmaScope version);

}  // namespace vyx::sae
