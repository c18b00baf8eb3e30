// How often each latent fires and how strongly: which are alive, and what edits of them are
// measured in ("ten times its largest activation").
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>

#include "sae/autoencoder/autoencoder.h"
#include "sae/store/activation_source.h"

namespace vyx::sae {

/// The file's name in an autoencoder's folder, where vyx-sae-train writes it.
inline constexpr const char* kLatentStatisticsFile = "latents.safetensors";

struct LatentStatistics {
  int64_t tokens = 0;
  at::Tensor firings;  // [latents] int64: tokens on which each fired
  at::Tensor maximum;  // [latents] float32: its largest activation; 0 when it never fired

  /// Of no token yet.
  static LatentStatistics empty(int64_t latents);
};

/// Adds f [tokens, latents] of more tokens.
void add(LatentStatistics& statistics, const at::Tensor& f);

/// Of `batches` batches of the source, from `first` on: a function of the autoencoder, the data and
/// the two numbers.
LatentStatistics measure_latents(const Autoencoder& sae, ActivationSource& source, uint64_t first,
                                 uint64_t batches);

/// Safetensors with "firings" and "maximum".
void write_latent_statistics(const std::filesystem::path& path, const LatentStatistics& statistics);
/// Throws Error when the file is not there (naming the command that makes it), or is not of an
/// autoencoder with so many latents.
LatentStatistics read_latent_statistics(const std::filesystem::path& path, int64_t latents);

}  // namespace vyx::sae
