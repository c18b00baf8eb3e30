// dictionary_learning (https://github.com/saprmarks/dictionary_learning): ae.pt, a pickled
// state_dict, and config.json.
#pragma once
#include <filesystem>

#include "sae/autoencoder/autoencoder.h"

namespace vyx::sae {

/// `path` is the folder or its ae.pt. The class is that of the config (trainer.dict_class); without
/// a config, the one that has these tensors. Throws Error for a state_dict that TopK and BatchTopK
/// share when there is no config to tell them apart.
Autoencoder read_dictionary_learning(const std::filesystem::path& path);

/// Throws Error for what it lacks: transcoders, skip connections, a norm per token.
void write_dictionary_learning(const Autoencoder& sae, const std::filesystem::path& folder);

}  // namespace vyx::sae
