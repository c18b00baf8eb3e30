// How likely a model holds texts for, teacher-forced, with whatever is hooked in it.
#pragma once
#include <ATen/core/Tensor.h>

#include <span>
#include <vector>

#include "models/language_model.h"

namespace vyx::steering {

/// The log-probability in nats of each continuation behind its prompt, the sum over its tokens: [continuations] float64, on the CPU.
/// Prompt i has the i-th run of as many continuations as each of them has; it is run once. Continuations are run as if the model had
/// written them (Positions::generated). One batch: memory is rows × length.
at::Tensor log_likelihoods(models::LanguageModel& model, std::span<const std::vector<models::TokenId>> prompts,
                           std::span<const std::vector<models::TokenId>> continuations);

}  // namespace vyx::steering
