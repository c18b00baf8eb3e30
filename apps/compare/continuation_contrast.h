// Activations of pairs of continuations, for a concept that has no contrast set: a foreign one.
#pragma once
#include <span>

#include "models/language_model/language_model.h"
#include "steering/directions/contrast_set.h"
#include "steering/directions/differences.h"

namespace vyx::compare {

/// The mean activation at `site` of each continuation, float64. All its tokens count alike (not
/// those of its prompt, nor special ones), since the sides differ from the first word on, not in
/// the last token only. A pair of which a side has no such token is left out. Throws Error as
/// models/activations/row_activations.h does.
steering::ContrastActivations continuation_contrast(
    models::LanguageModel& model, std::span<const steering::ContinuationPair> pairs,
    const Site& site, bool chat);

}  // namespace vyx::compare
