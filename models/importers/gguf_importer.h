// A GGUF language model becomes a TorchScript archive.
#pragma once
#include <ATen/core/ScalarType.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "core/formats/gguf.h"
#include "models/language_model/language_model_config.h"

namespace vyx::models {

struct ImportOptions {
  at::ScalarType dtype = at::kFloat;  // of the weights: float32, bfloat16 or float16
  std::function<void(uint64_t parameters, uint64_t total)> on_progress;
};

struct ImportResult {
  LanguageModelConfig config;
  uint64_t parameters = 0;
  uint64_t tensors = 0;
  std::vector<std::string> warnings;  // of what the file says and vyx has taken otherwise
};

/// Reads `source`, writes the archive `out` whole or not at all. Throws Error for everything about
/// the file that does not hold (gguf.h), an architecture that vyx has not got, a missing tokenizer,
/// and hyperparameters that don't fit each other.
ImportResult import_gguf(const std::filesystem::path& source, const std::filesystem::path& out,
                         const ImportOptions& options = {});

/// The hyperparameters alone, checked.
LanguageModelConfig config_from_gguf(const Gguf& gguf);

}  // namespace vyx::models
