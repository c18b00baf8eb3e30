// What latents have to do with a preference: the mean, over pairs of continuations of a prompt, of
// log p(positive) − log p(negative) per token, teacher-forced (as steering::EffectMeter does).
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <span>

#include "models/activations/gradients.h"
#include "sae/autoencoder/autoencoder.h"

namespace vyx::sae {

struct PreferenceGradient {
  at::Tensor attribution;  // [latents] float64, nats: of all tokens but special ones and sinks
                           // (attribution.h)
  at::Tensor
      slope;  // [d] float64, nats: of the preference by a vector that is added at every token
};

/// `positive` and `negative` continuations, one of each a pair, whose prompts are equal.
/// Activations longer than `max_norm` are attention sinks. Throws Error when the sides' numbers
/// differ, and what for_each_gradient() throws.
PreferenceGradient preference_gradient(models::LanguageModel& model, const Autoencoder& sae,
                                       const Site& site,
                                       std::span<const models::Continuation> positive,
                                       std::span<const models::Continuation> negative,
                                       double max_norm,
                                       const std::function<void(uint64_t tokens)>& on_tokens = {});

}  // namespace vyx::sae
