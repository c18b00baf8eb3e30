// Why a model has nothing to say: logits that are no numbers, and where they come from.
#pragma once
#include <ATen/core/Tensor.h>

#include <span>
#include <string>

#include "models/language_model/language_model.h"

namespace vyx::models {

/// What keeps `logits` [vocabulary] float32 from choosing a token, as in "the logits are NaN":
/// nullptr for nothing. One number everywhere is what is left when activations are so large that
/// the square in their norm is infinite.
const char* problem_of(const at::Tensor& logits);

/// Where the problem of the logits behind a row's tokens begins, as the end of a sentence. The
/// model runs again, with and without what is hooked in it: an edit, or a type that is too narrow,
/// is named only where it was the cause.
std::string origin_of_problem(LanguageModel& model, std::span<const TokenId> prompt,
                              std::span<const TokenId> generated);

}  // namespace vyx::models
