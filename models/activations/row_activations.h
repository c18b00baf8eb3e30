// The activations of rows of tokens at one site, batch by batch, as statistics want them: without
// padding, special tokens and attention sinks (Xiao et al. 2023, arXiv:2309.17453), one of which
// would ruin every mean.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <vector>

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
  double max_norm =
      std::numeric_limits<double>::infinity();  // a longer activation is an attention sink's:
                                                // kSinkThreshold · median_norm()
  int64_t max_batch_tokens = 2048;              // of one forward, padding included
  std::function<void(uint64_t tokens)>
      on_tokens;  // after each forward: how many more tokens are done
};

/// So many times the median norm is an attention sink's, as a harvest has it (harvest.h).
constexpr double kSinkThreshold = 10;

struct LeftOut {
  uint64_t special = 0, sinks = 0;  // tokens
};

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

/// Whether a statistic may use the token: its activation has `norm`, and it is not special.
inline bool is_regular(const Tokenizer& tokenizer, TokenId token, double norm, double max_norm) {
  return norm <= max_norm && !tokenizer.is_special(token);
}

}  // namespace vyx::models
