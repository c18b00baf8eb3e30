// Numbers as arguments and JSON have them.
#pragma once
#include <string>
#include <vector>

#include "core/base/json_guard.h"

namespace vyx::apps {

/// "happy.gguf=1.5" → {"happy.gguf", 1.5}; a text without "=" has the number `without`. The last
/// "=" counts.
struct NamedNumber {
  std::string name;
  double number;
};
NamedNumber parse_named_number(const std::string& text, double without);  // throws UsageError

/// "0.1,0.3,1" → 0.1, 0.3, 1. Throws UsageError, with the option's name before it.
std::vector<double> parse_numbers(const std::string& option, const std::string& text);

/// A number for JSON, which has no NaN and no infinity: null.
Json json_number_or_null(double value);

}  // namespace vyx::apps
