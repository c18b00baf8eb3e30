// The Llama family as TorchScript, built in C++: grouped-query attention, rotary positions,
// RMSNorm, SwiGLU, tied or untied head. Module paths are Hugging Face's: model.embed_tokens,
// model.layers.k.self_attn.q_proj, …, model.norm, lm_head.
#pragma once
#include <ATen/core/Tensor.h>
#include <torch/csrc/jit/api/module.h>

#include <functional>
#include <string>

#include "models/language_model/language_model_config.h"

namespace vyx::models {

/// Gives the weight of a Hugging Face name ("model.layers.0.self_attn.q_proj.weight"), of the shape
/// that `expected` says; throws Error if it can't.
using WeightSource = std::function<at::Tensor(const std::string& name, at::IntArrayRef expected)>;

/// The module with the methods of language_model.h, in eval mode.
torch::jit::Module make_llama(const LanguageModelConfig& config, const WeightSource& weights);

}  // namespace vyx::models
