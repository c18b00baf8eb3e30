// What a harvest runs on: text through a language model, or tensors through any module.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

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
/// row of an activation is real. `provenance` says what they are.
std::unique_ptr<HarvestInput> argument_input(
    HookedModule module, std::function<std::optional<Arguments>(uint64_t forward)> arguments,
    Json provenance);

/// The module's arguments [n, ..], in its order, `batch` of the n at a time. Throws Error unless
/// all have the same n, at least 1.
std::unique_ptr<HarvestInput> tensor_input(HookedModule module, std::vector<at::Tensor> inputs,
                                           int64_t batch, Json provenance);

}  // namespace vyx::models
