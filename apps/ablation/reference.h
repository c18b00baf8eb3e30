// References in an experiment's texts: "model.layers.{layer}" with layer = 14 is "model.layers.14".
//
// A reference is a name in braces: a letter, then letters, digits, _ and -; more names may follow
// after dots. Braces around anything else stay as they are, so that site patterns ({8..20}, {a,b})
// need no escape. A text that is one reference and nothing else becomes the value itself, whatever
// its type.
#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "apps/ablation/document.h"

namespace vyx::ablation {

/// The value of a name ("layer", "recipe.k", "steps.vector.out"); null when there is none in this
/// cell, and what refers to it is left out. Throws Error for a name that means nothing.
using Lookup = std::function<OrderedJson(const std::string& name)>;

/// `value` with its references replaced; lists and tables element by element, of which those that
/// are left out disappear. Throws Error, with `place` before it, for a reference within a text that
/// has no value in this cell, or that is a table.
OrderedJson substitute(const OrderedJson& value, const Lookup& lookup, std::string_view place);

/// The names that `value` refers to, in order, each as often as it stands there.
std::vector<std::string> references(const OrderedJson& value);

/// A value as a command line and a name of a cell have it: text as it is, numbers in their shortest
/// form, the rest as JSON.
std::string as_text(const OrderedJson& value);

}  // namespace vyx::ablation
