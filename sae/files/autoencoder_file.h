// Autoencoders in files: one entry for all formats that the field exchanges them in.
#pragma once
#include <filesystem>
#include <string_view>

#include "sae/autoencoder/autoencoder.h"

namespace vyx::sae {

enum class FileFormat {
  saelens,              // a folder: cfg.json, sae_weights.safetensors; vyx's own
  sparsify,             // a folder: cfg.json, sae.safetensors
  dictionary_learning,  // a folder: config.json, ae.pt
  openai,               // a file, .pt
  gemma_scope,          // a folder: params.npz
  gemma_scope_2,        // a folder: params.safetensors, config.json
};
std::string_view name_of(FileFormat format);              // "dictionary-learning"
FileFormat file_format_from_name(std::string_view name);  // throws UsageError listing them

/// Recognises a folder by the files in it, a file by its name. Throws Error naming what was looked
/// for.
FileFormat recognise_format(const std::filesystem::path& path);

/// Reads an autoencoder of any of the formats. `path` is its folder or the file with its weights.
/// Throws Error naming the file, the tensor or the field, what was found and what was expected.
Autoencoder load_autoencoder(const std::filesystem::path& path);

/// Writes it in SAELens's format, which holds all that vyx has, or in another. Throws Error for
/// what the format lacks. Each file appears whole or not at all, the config after the weights.
void save_autoencoder(const Autoencoder& sae, const std::filesystem::path& path,
                      FileFormat format = FileFormat::saelens);

}  // namespace vyx::sae
