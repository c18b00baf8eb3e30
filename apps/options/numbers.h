// Numbers in arguments.
#pragma once
#include <string>
#include <vector>

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

}  // namespace vyx::apps
