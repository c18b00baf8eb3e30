// Activations of prompts at sites, computed with as few forwards as possible.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "models/language_model/language_model.h"

namespace vyx::models {

struct ActivationOptions {
  int64_t max_batch_tokens = 2048;  // rows × length of one forward, padding included
  bool share_prefixes = true;       // compute a prefix that many prompts share once
  // After each forward: how many more prompt tokens are done.
  std::function<void(uint64_t tokens)> on_tokens;
};

/// The activation of each prompt's last token at each of `sites`, which must be per-token values
/// [batch, seq, d] of the model's blocks. One float32 tensor [prompts, d] per site, in the order of
/// the prompts. Prompts are batched by length, and a shared prefix changes nothing beyond 1e-5.
/// Throws Error for an empty prompt, and for a NaN or infinite activation (naming site and prompt).
std::vector<at::Tensor> last_token_activations(LanguageModel& model,
                                               std::span<const std::vector<TokenId>> prompts,
                                               std::span<const Site> sites,
                                               const ActivationOptions& options = {});

}  // namespace vyx::models
