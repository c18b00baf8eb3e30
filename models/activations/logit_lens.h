// The logit lens (nostalgebraist 2020): what a vector of the residual stream would make the model
// say, were it the last block's output.
#pragma once
#include <ATen/core/Tensor.h>

#include "models/language_model/language_model.h"

namespace vyx::models {

/// Logits [n, vocabulary] float32 of `vectors` [n, d_model], through the final norm and the head. A
/// final norm without a bias takes the vectors' lengths away: the logits are those of directions.
/// Throws Error for another width.
at::Tensor logit_lens(LanguageModel& model, const at::Tensor& vectors);

}  // namespace vyx::models
