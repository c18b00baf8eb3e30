// The activation in a module's value. A module may take and return tensors, tuples, lists, dicts
// and optionals of them. The activation is the first tensor in the value, depth first: of a block
// that returns (hidden, cache) it is `hidden`.
#pragma once
#include <ATen/core/ivalue.h>

#include <optional>
#include <string>

namespace vyx {

/// The feature axis of an activation is its last: [d], [rows, d] or [batch, seq, d]. Values of more
/// dimensions have it elsewhere in common models (images are [n, c, h, w]), and are no activations
/// until it is known where.
inline constexpr int64_t kMostDimensions = 3;

/// nullopt when the value holds no tensor (a None output, a list of numbers).
std::optional<at::Tensor> activation_of(const c10::IValue& value);

/// Where in a value of several tensors the activation stands, as Python writes it: "[0]", or
/// "['mask']" of a dict. "" for a value of one tensor, or of none.
std::string place_of_activation(const c10::IValue& value);

/// `value` with its activation replaced; the containers around it are new, the other members are
/// shared. Throws Error when the value holds no tensor.
c10::IValue with_activation(const c10::IValue& value, at::Tensor activation);

}  // namespace vyx
