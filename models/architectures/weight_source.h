// Where a model's weights come from.
#pragma once
#include <ATen/core/Tensor.h>

#include <functional>
#include <string>

namespace vyx::models {

/// Gives the parameter of a Hugging Face name ("model.layers.0.self_attn.q_proj.weight"), of the
/// shape that `shape` says; throws Error if it can't.
using WeightSource = std::function<at::Tensor(const std::string& name, at::IntArrayRef shape)>;

}  // namespace vyx::models
