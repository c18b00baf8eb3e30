#include "core/base/option_effect.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "core/base/error.h"

namespace vyx {
namespace {

using Kind = OptionCondition::Kind;
constexpr std::array<std::string_view, 5> kKinds{"needs", "not-with", "only-with", "unless",
                                                 "never"};  // in the order of Kind

std::optional<double> number(const std::string& text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// As text, or as numbers: 0.0 is 0.
bool equal(const std::string& a, const std::string& b) {
  const auto x = number(a), y = number(b);
  return x && y ? *x == *y : a == b;
}

/// "--vector, --sae or --latent"
std::string listed(const std::vector<std::string>& words, std::string_view before) {
  std::string text;
  for (size_t i = 0; i < words.size(); ++i)
    text += fmt::format("{}{}{}",
                        i == 0                  ? ""
                        : i + 1 == words.size() ? " or "
                                                : ", ",
                        before, words[i]);
  return text;
}

bool holds(const OptionCondition& condition, const GivenOptions& options) {
  const auto given = [&] {
    return std::any_of(condition.options.begin(), condition.options.end(), options.given);
  };
  const auto has_value = [&] {
    const std::string value = options.value(condition.options.front()).value_or("");
    return std::any_of(condition.values.begin(), condition.values.end(),
                       [&](const std::string& one) { return equal(value, one); });
  };
  switch (condition.kind) {
    case Kind::needs:
      return given();
    case Kind::not_with:
      return !given();
    case Kind::only_with:
      return has_value();
    case Kind::unless:
      return !has_value();
    case Kind::never:
      return false;
  }
  return true;
}

}  // namespace

std::string no_effect(std::string_view name, const std::vector<OptionCondition>& conditions,
                      const GivenOptions& options) {
  for (const OptionCondition& condition : conditions) {
    if (holds(condition, options)) continue;
    switch (condition.kind) {
      case Kind::needs:
        return fmt::format("--{} has no effect without {}", name, listed(condition.options, "--"));
      case Kind::not_with:
        for (const std::string& other : condition.options)
          if (options.given(other)) return fmt::format("--{} has no effect with --{}", name, other);
        break;
      case Kind::only_with:
      case Kind::unless: {
        const std::string& other = condition.options.front();
        const std::string value = options.value(other).value_or("");
        const char* standard = options.given(other) ? "" : ", the default";
        if (condition.kind == Kind::unless)
          return fmt::format("--{} has no effect with --{} {}{}", name, other, value, standard);
        return fmt::format("--{} has an effect only with --{} {}; it is {}{}", name, other,
                           listed(condition.values, ""), value.empty() ? "not given" : value,
                           value.empty() ? "" : standard);
      }
      case Kind::never:
        return fmt::format("--{} has no effect: {}", name, condition.values.front());
    }
  }
  return "";
}

std::string to_text(const OptionCondition& condition) {
  const auto other = [&] {
    return fmt::format("--{} {}", condition.options.front(), listed(condition.values, ""));
  };
  switch (condition.kind) {
    case Kind::needs:
      return "only with " + listed(condition.options, "--");
    case Kind::not_with:
      return "not with " + listed(condition.options, "--");
    case Kind::only_with:
      return "only with " + other();
    case Kind::unless:
      return "not with " + other();
    case Kind::never:
      return "no effect here: " + condition.values.front();
  }
  return "";
}

Json to_json(const OptionCondition& condition) {
  return {{"kind", kKinds[static_cast<size_t>(condition.kind)]},
          {"options", condition.options},
          {"values", condition.values}};
}

OptionCondition option_condition_from_json(const Json& json, std::string_view source) {
  const std::string name = json_string(json, "kind", source);
  const auto kind = std::find(kKinds.begin(), kKinds.end(), name);
  if (kind == kKinds.end())
    fail(
        "{}: found a condition of kind \"{}\", expected needs, not-with, only-with, unless or "
        "never",
        source, name);
  OptionCondition condition{.kind = static_cast<Kind>(kind - kKinds.begin())};
  const auto texts = [&](const char* key) {
    std::vector<std::string> result;
    const auto found = json.find(key);
    if (found == json.end() || !found->is_array())
      fail("{}: found a condition without a list of {}", source, key);
    for (const Json& text : *found) {
      if (!text.is_string()) fail("{}: found a condition whose {} are not all text", source, key);
      result.push_back(text.get<std::string>());
    }
    return result;
  };
  condition.options = texts("options");
  condition.values = texts("values");
  const bool needs_options = condition.kind != Kind::never,
             needs_values = condition.kind != Kind::needs && condition.kind != Kind::not_with;
  if ((needs_options && condition.options.empty()) || (needs_values && condition.values.empty()))
    fail("{}: found a condition of kind \"{}\" that names nothing", source, name);
  return condition;
}

}  // namespace vyx
