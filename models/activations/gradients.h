// How the log-probability of text depends on an activation: gradients through the rest of the
// model.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "models/activations/row_activations.h"
#include "models/language_model/language_model.h"

namespace vyx::models {

/// A prompt and what follows it, whose log-probability is asked for.
struct Continuation {
  std::vector<TokenId> prompt, text;
};

struct SiteGradients {
  at::Tensor x;  // [tokens, d] float32: the activation at the site, of every token
  /// [tokens, d] float32, nats: ∂(mean log-probability per token of its row's text)/∂x.
  at::Tensor gradient;
  std::vector<TokenPlace> places;  // [tokens]; a row's tokens come in one batch, in order
};

/// Calls `visit` with each batch's gradients at `site`. Nothing but x is differentiated by: what
/// the model computes before the site is constant. Throws Error for an empty prompt or text, a row
/// longer than the model's context, a site on which the output does not depend or whose activation
/// is not [batch, seq, d], and a gradient that is NaN or infinite.
void for_each_gradient(LanguageModel& model, std::span<const Continuation> rows, const Site& site,
                       const std::function<void(const SiteGradients&)>& visit,
                       int64_t max_batch_tokens = 512);

}  // namespace vyx::models
