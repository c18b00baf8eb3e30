// What methods are compared on: activations at one site, and what becomes of a model when they are
// edited there. A language model is one subject (language_subject.h), a synthetic model whose
// features are known another (synthetic_subject.h).
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>
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

/// Edits that are measured at once, each alone; null: the model as it is. Many cost less than as
/// many calls, and give the same but for rounding.
using Edits = std::span<const Edit* const>;

/// Preferences are of an item's positive continuation over its negative one, nats per token. What
/// takes edits returns one result per edit, in order; with one edit, that one.
class Subject {
 public:
  virtual ~Subject() = default;

  virtual std::string site() const = 0;
  virtual int64_t width() const = 0;                                   // d
  virtual const ContrastActivations& contrast(Split split) const = 0;  // float32
  /// Of those pairs: what stands and falls together [pairs].
  virtual const std::vector<size_t>& contrast_groups(Split split) const = 0;
  virtual const at::Tensor& background()
      const = 0;  // activations of text outside the test, without attention sinks [rows, d] float32

  virtual std::vector<std::vector<double>> preference(
      Split split, Edits edits) = 0;  // [edits][items] of selection or test
  std::vector<double> preference(Split split, const Edit* edit) {
    return std::move(preference(split, Edits(&edit, 1)).front());
  }
  /// How each item's preference changes with a small vector that is added at every token: [items,
  /// d] float64, nats.
  virtual at::Tensor preference_slopes(Split split) = 0;
  virtual const std::vector<size_t>& clusters(Split split) const = 0;  // [items]: the group of each
  virtual std::vector<steering::NeutralEffect> neutral(
      Split split, Edits edits) = 0;  // [edits] of selection or test
  steering::NeutralEffect neutral(Split split, const Edit* edit) {
    return std::move(neutral(split, Edits(&edit, 1)).front());
  }
  /// The window of each token of a half, from 0 and rising [tokens]: tokens of one window are
  /// alike.
  virtual std::vector<size_t> neutral_windows(Split split) const = 0;
  /// On a small part of the selection half, for what is measured many times.
  virtual std::vector<steering::NeutralEffect> neutral_sample(Edits edits) = 0;  // [edits]

  virtual std::vector<std::string> others() const = 0;  // contrast sets of other concepts
  virtual std::vector<std::vector<double>> other_preference(size_t other,
                                                            Edits edits) = 0;  // [edits][items]
  std::vector<double> other_preference(size_t other, const Edit* edit) {
    return std::move(other_preference(other, Edits(&edit, 1)).front());
  }

  /// Activations of a foreign concept's sides at the site, pair by pair.
  virtual ContrastActivations other_contrast(size_t other) = 0;

  /// On another template than the contrast set's and the test's: [edits][items], and the group of
  /// each item; no items: not measured.
  virtual std::vector<std::vector<double>> ood_preference(Edits edits) = 0;
  std::vector<double> ood_preference(const Edit* edit) {
    return std::move(ood_preference(Edits(&edit, 1)).front());
  }
  virtual const std::vector<size_t>& ood_clusters() const = 0;
  /// Of a choice benchmark: [edits][items], 1 where the model is right, else 0; no items: not
  /// measured.
  virtual std::vector<std::vector<double>> choices_right(Edits edits) = 0;
  std::vector<double> choices_right(const Edit* edit) {
    return std::move(choices_right(Edits(&edit, 1)).front());
  }
  virtual double choice_chance() const = 0;  // the share that guessing gets right

  virtual std::optional<Instructed> instructed() = 0;
  virtual std::vector<Sample> samples(const Edit* edit) = 0;

  /// Tokens that an edit runs through the model, for the plan and the progress.
  virtual uint64_t preference_tokens(Split split) const = 0;
  virtual uint64_t neutral_tokens(Split split) const = 0;
  virtual uint64_t neutral_sample_tokens() const = 0;
  virtual uint64_t ood_tokens() const = 0;     // 0: not measured
  virtual uint64_t choice_tokens() const = 0;  // 0: not measured
  /// Model, data, splits: names, counts, digests.
  virtual Json provenance() const = 0;
  /// What was left out of the data, and why: sentences.
  virtual std::vector<std::string> notes() const = 0;
};

}  // namespace vyx::compare
