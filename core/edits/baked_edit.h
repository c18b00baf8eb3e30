// An edit as TorchScript: the methods and buffers that a module gets to edit its own activations.
#pragma once
#include <torch/csrc/jit/api/module.h>

#include <cstddef>
#include <string>

#include "core/edits/edit.h"

namespace vyx {

/// Gives `object` a coefficient, and a method that sets it, with a name of its own (returned).
std::string add_coefficient(torch::jit::Module object, double coefficient);

/// Gives `object`, which has a coefficient, the edit as a method x → y (its name is returned).
/// Several edits of one object differ in `number`. An adjustable one computes all parts of its
/// gates and has its tensors to itself.
std::string add_edit(torch::jit::Module object, const Edit& edit, size_t number, bool adjustable);

/// Gives `object`, which has that edit and has it adjustable, a method (term: int, gate:
/// List[float]) that gives a term another gate (its name is returned).
std::string add_gate_setter(torch::jit::Module object, const Edit& edit, size_t number);

}  // namespace vyx
