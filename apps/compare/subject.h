// What methods are compared on: activations at one site, and what becomes of a model when they are edited there. A language model is one
// subject (language_subject.h), a synthetic model whose features are known another (synthetic_subject.h).
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "apps/compare/splits.h"
#include "core/edit.h"
#include "core/json_guard.h"
#include "steering/effects.h"

namespace vyx::compare {

struct ContrastActivations {
  at::Tensor positive, negative;  // [pairs, d] float32
};

struct Sample {
  std::string prompt, text;
  std::vector<models::TokenId> tokens;  // generated
};

/// A prompt that asks for the concept, measured like an edit.
struct Instructed {
  std::string instruction;
  std::vector<double> preference;  // an item of the test
  steering::NeutralEffect neutral;
};

/// `edit` is null for the model as it is. Preferences are of an item's positive continuation over its negative one, nats a token.
class Subject {
 public:
  virtual ~Subject() = default;

  virtual std::string site() const = 0;
  virtual int64_t width() const = 0;  // d
  virtual const ContrastActivations& contrast(Split split) const = 0;
  virtual const at::Tensor& background() const = 0;  // activations of text outside the test, without attention sinks [rows, d] float32

  virtual std::vector<double> preference(Split split, const Edit* edit) = 0;  // an item; of selection or test
  /// How each item's preference changes with a small vector that is added at every token: [items, d] float64, nats.
  virtual at::Tensor preference_slopes(Split split) = 0;
  virtual const std::vector<size_t>& clusters(Split split) const = 0;          // an item: its group
  virtual steering::NeutralEffect neutral(Split split, const Edit* edit) = 0;  // of selection or test

  virtual std::vector<std::string> others() const = 0;                               // contrast sets of other concepts
  virtual std::vector<double> other_preference(size_t other, const Edit* edit) = 0;  // an item

  virtual std::optional<Instructed> instructed() = 0;
  virtual std::vector<Sample> samples(const Edit* edit) = 0;

  /// Tokens that a call runs through the model, for the plan and the progress.
  virtual uint64_t preference_tokens(Split split) const = 0;
  virtual uint64_t neutral_tokens(Split split) const = 0;
  /// Model, data, splits: names, counts, digests.
  virtual Json provenance() const = 0;
};

}  // namespace vyx::compare
