// OpenAI's sparse_autoencoder (https://github.com/openai/sparse_autoencoder): a pickled state_dict,
// TopK or ReLU.
#pragma once
#include <filesystem>

#include "sae/autoencoder/autoencoder.h"

namespace vyx::sae {

Autoencoder read_openai(const std::filesystem::path& file);

/// Throws Error for what it lacks: anything but topk with layer_norm, and relu without
/// normalisation.
void write_openai(const Autoencoder& sae, const std::filesystem::path& file);

}  // namespace vyx::sae
