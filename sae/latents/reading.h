// How latents tell two sets of prompts apart.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "models/activations/row_filter.h"
#include "models/language_model/language_model.h"
#include "sae/autoencoder/autoencoder.h"
#include "sae/metrics/separation.h"

namespace vyx::sae {

struct ReadingOptions {
  /// What stands for a prompt: the latents of its last token, as for control vectors; or their mean
  /// over its tokens. (Not their maximum, which grows with the prompt's length.)
  bool all_tokens = false;
  double max_norm = 0;  // of activations; longer ones are attention sinks (row_filter.h)
  std::function<void(uint64_t tokens)> on_tokens;
};

struct Reading {
  Separation separation;
  int64_t positives = 0, negatives = 0;  // prompts that counted
  models::LeftOut left;                  // tokens that were left out: of all, or of the last ones
};

/// Prompts whose tokens are all left out do not count; a side without any other throws Error,
/// calling itself "positive" or "negative".
Reading read_sides(models::LanguageModel& model, const Autoencoder& sae, const Site& site,
                   std::span<const std::vector<models::TokenId>> positive,
                   std::span<const std::vector<models::TokenId>> negative,
                   const ReadingOptions& options);

}  // namespace vyx::sae
