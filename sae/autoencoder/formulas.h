// What an autoencoder computes, written once, as TorchScript: encode() and decode() run it, and an
// exported module (edits/export.h) holds it.
#pragma once
#include <ATen/core/ivalue.h>
#include <torch/csrc/jit/api/module.h>

#include <string>
#include <vector>

#include "sae/autoencoder/autoencoder.h"

namespace vyx::sae {

/// A module of class `name` with the weights as parameters by their published names, shared, and
///     normalize(x [.., d_in]) → x' [.., d_in]
///     spread(x [.., d_in]) → [.., 1]                       of x̂ to x̂'
///     encode(x [.., d_in]) → f [.., latents]
///     decode(f [.., latents], x [.., d_in] | None) → x̂ [.., d_out]
/// Normalization::scale is none here: whoever calls scales, or folds it.
torch::jit::Module formula_module(const Autoencoder& sae, const std::string& name);

/// The result of one of its methods, without the module: a class is compiled once for all
/// autoencoders of a kind. Throws Error, one line, for what TorchScript refuses.
at::Tensor run_formula(const Autoencoder& sae, const char* method,
                       std::vector<c10::IValue> arguments);

}  // namespace vyx::sae
