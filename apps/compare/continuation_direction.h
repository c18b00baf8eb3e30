// A concept's direction from pairs of continuations, for a concept that has no contrast set: a
// foreign one.
#pragma once
#include <ATen/core/Tensor.h>

#include <span>

#include "models/language_model/language_model.h"
#include "steering/directions/contrast_set.h"

namespace vyx::compare {

/// The mean activation at `site` of the positive continuations minus that of the negative ones [d]
/// float64. All tokens of a continuation count alike (not those of its prompt, nor special ones),
/// and so do all pairs, since the sides differ from the first word on, not in the last token only.
/// Throws Error as models/activations/row_activations.h does.
at::Tensor continuation_direction(models::LanguageModel& model,
                                  std::span<const steering::ContinuationPair> pairs,
                                  const Site& site, bool chat);

}  // namespace vyx::compare
