// A comparison as text for a terminal: a table of the methods, the rules, the answer.
#pragma once
#include <string>

#include "apps/compare/compare.h"

namespace vyx::compare {

std::string to_text(const Comparison& comparison);

}  // namespace vyx::compare
