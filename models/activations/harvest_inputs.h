// What a harvest runs on: text through a language model, or tensors through any module.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "models/activations/harvest.h"
#include "models/activations/packing.h"
#include "models/language_model/language_model.h"

namespace vyx::models {

struct TextInputOptions {
  int64_t context = 256;         // tokens per row
  int64_t batch_tokens = 2048;   // of one forward: rows × context, at least one row
  bool special_in_text = false;  // PackingOptions
};

/// Packed text. Each segment begins with the model's bos_token when its prompts do. `model` must
/// outlive it. Throws Error for a context that the model was not trained on.
std::unique_ptr<HarvestInput> text_input(LanguageModel& model, TextSource source,
                                         const TextInputOptions& options = {});

/// The forwards of any module: `arguments(i)` are those of forward i; nullopt: there is none. Every
/// row of an activation is real. `provenance` says what they are, `seed` is of the module's random
/// operators. A module that keeps state begins each pass fresh; it is told by its first forward.
std::unique_ptr<HarvestInput> argument_input(
    HookedModule module, std::function<std::optional<Arguments>(uint64_t forward)> arguments,
    Json provenance, uint64_t seed = 0);

using NamedTensors = std::map<std::string, at::Tensor>;

struct TensorInputOptions {
  int64_t batch = 16;  // examples per forward
  /// The input [n, seq] that is 1 where an example has a real row and 0 where it has padding; ""
  /// when every row is real. The module's forward need not take it.
  std::string mask;
  uint64_t seed = 0;                  // of the module's own random operators
  std::string source = "the inputs";  // begins the messages: the file
};

/// A module's arguments by their names, each [n, ..], a batch of the n at a time; parameters that
/// have a default may be left out. Throws Error for names that forward does not take, for one that
/// it needs, for a mask of another shape, and unless all have the same n, at least 1.
std::unique_ptr<HarvestInput> tensor_input(HookedModule module, NamedTensors inputs,
                                           const TensorInputOptions& options, Json provenance);

}  // namespace vyx::models
