#include "apps/options/numbers.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <exception>
#include <optional>

#include "core/base/error.h"

namespace vyx::apps {
namespace {

std::optional<double> finite_number(const std::string& text) {
  try {
    size_t used = 0;
    const double value = std::stod(text, &used);
    if (used == text.size() && std::isfinite(value)) return value;
  } catch (const std::exception&) {  // no number, or none that a double can hold
  }
  return std::nullopt;
}

}  // namespace

NamedNumber parse_named_number(const std::string& text, double without) {
  const auto equals = text.rfind('=');
  if (equals == std::string::npos) return {text, without};
  const std::string number = text.substr(equals + 1);
  const auto value = finite_number(number);
  if (!value)
    throw UsageError(
        fmt::format("{}: '{}' is not a finite number, expected NAME=NUMBER", text, number));
  return {text.substr(0, equals), *value};
}

std::vector<double> parse_numbers(const std::string& option, const std::string& text) {
  std::vector<double> numbers;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const std::string part = text.substr(begin, end - begin);
    const auto value = finite_number(part);
    if (!value)
      throw UsageError(fmt::format("{} {}: '{}' is not a finite number, expected NUMBER,NUMBER,…",
                                   option, text, part));
    numbers.push_back(*value);
    begin = end + 1;
  }
  return numbers;
}

}  // namespace vyx::apps
