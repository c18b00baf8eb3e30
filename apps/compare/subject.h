// What methods are compared on: activations at one site, and what becomes of a model when they are
// edited there. A language model is one subject (language_subject.h), a synthetic model whose
// features are known another (synthetic_subject.h).
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "apps/compare/splits.h"
#include "core/base/json_guard.h"
#include "core/edits/edit.h"
#include "steering/directions/differences.h"
#include "steering/effects/effects.h"

namespace vyx::compare {

using steering::ContrastActivations;

struct Sample {
  std::string prompt, text;
  std::vector<models::TokenId> tokens;  // generated
};

/// A prompt that asks for the concept, measured like an edit.
struct Instructed {
  std::string instruction;
  std::vector<double> preference;  // [items of the test]
  steering::NeutralEffect neutral;
};

/// `edit` is null for the model as it is. Preferences are of an item's positive continuation over
/// its negative one, nats per token.
class Subject {
 public:
  virtual ~Subject() = default;

  virtual std::string site() const = 0;
  virtual int64_t width() const = 0;                                   // d
  virtual const ContrastActivations& contrast(Split split) const = 0;  // float32
  virtual const at::Tensor& background()
      const = 0;  // activations of text outside the test, without attention sinks [rows, d] float32

  virtual std::vector<double> preference(Split split,
                                         const Edit* edit) = 0;  // [items] of selection or test
  /// How each item's preference changes with a small vector that is added at every token: [items,
  /// d] float64, nats.
  virtual at::Tensor preference_slopes(Split split) = 0;
  virtual const std::vector<size_t>& clusters(Split split) const = 0;  // [items]: the group of each
  virtual steering::NeutralEffect neutral(Split split,
                                          const Edit* edit) = 0;  // of selection or test

  virtual std::vector<std::string> others() const = 0;  // contrast sets of other concepts
  virtual std::vector<double> other_preference(size_t other, const Edit* edit) = 0;  // [items]

  /// What tells a foreign concept's sides apart at the site: the mean activation of its positive
  /// side minus that of its negative one [d].
  virtual at::Tensor other_direction(size_t other) = 0;

  /// On another template than the contrast set's and the test's: [items], and the group of each;
  /// empty: not measured.
  virtual std::vector<double> ood_preference(const Edit* edit) = 0;
  virtual const std::vector<size_t>& ood_clusters() const = 0;
  /// Of a choice benchmark: [items], 1 where the model is right, else 0; empty: not measured.
  virtual std::vector<double> choices_right(const Edit* edit) = 0;
  virtual double choice_chance() const = 0;  // the share that guessing gets right

  virtual std::optional<Instructed> instructed() = 0;
  virtual std::vector<Sample> samples(const Edit* edit) = 0;

  /// Tokens that a call runs through the model, for the plan and the progress.
  virtual uint64_t preference_tokens(Split split) const = 0;
  virtual uint64_t neutral_tokens(Split split) const = 0;
  virtual uint64_t ood_tokens() const = 0;     // 0: not measured
  virtual uint64_t choice_tokens() const = 0;  // 0: not measured
  /// Model, data, splits: names, counts, digests.
  virtual Json provenance() const = 0;
  /// What was left out of the data, and why: sentences.
  virtual std::vector<std::string> notes() const = 0;
};

}  // namespace vyx::compare
