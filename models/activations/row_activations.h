// The activations of rows of tokens at one site, batch by batch, as statistics want them: those of
// the rows that count (row_filter.h), each with its place.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "models/activations/row_filter.h"
#include "models/language_model/language_model.h"

namespace vyx::models {

struct TokenPlace {
  size_t row = 0;
  int64_t position = 0;  // in the row
};

struct TokenActivations {
  at::Tensor x;                    // [tokens, d] float32, on the CPU
  std::vector<TokenPlace> places;  // [tokens]; a row's tokens come in one batch, in order
};

struct RowActivationOptions {
  double max_norm = kAnyNorm;       // a longer activation is an attention sink's: sink_limit()
  int64_t max_batch_tokens = 2048;  // of one forward, padding included
  // After each forward: how many more tokens are done.
  std::function<void(uint64_t tokens)> on_tokens;
};

/// The activation at `site` of all tokens of `batch`, padding included [batch, seq, d] float32, on
/// the CPU. Throws Error for a site whose activation is not [batch, seq, d].
at::Tensor batch_activations(LanguageModel& model, const Batch& batch, const Site& site);

/// Calls `visit` with each batch's activations at `site`. Throws Error for a row longer than the
/// model's context, a site whose activation is not [batch, seq, d], and NaN or infinity (naming the
/// site).
LeftOut for_each_batch(LanguageModel& model, std::span<const std::vector<TokenId>> rows,
                       const Site& site, const std::function<void(const TokenActivations&)>& visit,
                       const RowActivationOptions& options = {});

/// The median norm at `site` of the tokens that are not special, in as many of the rows as have
/// `max_tokens`. Throws Error when there is none, and as above.
double median_norm(LanguageModel& model, std::span<const std::vector<TokenId>> rows,
                   const Site& site, size_t max_tokens = 4096);

}  // namespace vyx::models
