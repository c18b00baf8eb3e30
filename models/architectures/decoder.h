// A decoder as TorchScript, built in C++ from its spec. Module paths are Hugging Face's:
// model.embed_tokens, model.layers.k.self_attn.q_proj, …, model.norm, lm_head.
#pragma once
#include <ATen/core/Tensor.h>
#include <torch/csrc/jit/api/module.h>

#include <string>
#include <vector>

#include "models/architectures/decoder_spec.h"
#include "models/architectures/weight_source.h"

namespace vyx::models {

/// The module with the methods of models/language_model/language_model.h, in eval mode. Throws
/// Error for sizes that don't fit each other, and what `weights` throws.
torch::jit::Module make_decoder(const DecoderSpec& spec, const WeightSource& weights);

struct Parameter {
  std::string name;            // "model.layers.0.self_attn.q_proj.weight"
  std::vector<int64_t> shape;  // [out, in] or [d]
};

/// What make_decoder() asks its source for, in that order, each once.
std::vector<Parameter> parameters_of(const DecoderSpec& spec);

/// [width / 2] float32: by how much a position turns each pair of numbers, in radians.
at::Tensor rotary_frequencies(const RotarySpec& spec);

}  // namespace vyx::models
