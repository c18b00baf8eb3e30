#include "apps/ablation/driver_info.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "apps/ablation/reference.h"
#include "core/base/error.h"
#include "core/base/json_guard.h"
#include "core/base/nearest.h"
#include "core/base/text.h"

namespace vyx::ablation {
namespace {

using Type = DriverOption::Type;
constexpr std::array<std::string_view, 4> kTypes{"switch", "integer", "number",
                                                 "text"};              // in the order of Type
constexpr std::array<std::string_view, 2> kReserved{"json", "quiet"};  // vyx-ablate's own

Type type_from_name(const std::string& name, std::string_view source) {
  const auto found = std::find(kTypes.begin(), kTypes.end(), name);
  if (found == kTypes.end())
    fail("{}: found an option of type {}, expected switch, integer, number or text", source,
         quote(name));
  return static_cast<Type>(found - kTypes.begin());
}

template <class Number>
bool is_all(const std::string& text) {
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size();
}

// One value as text, of the option's type and among its choices.
std::string checked(const DriverOption& option, const OrderedJson& value, std::string_view place) {
  const std::string text = as_text(value);
  const bool fits = option.type == Type::integer  ? is_all<int64_t>(text) || is_all<uint64_t>(text)
                    : option.type == Type::number ? is_all<double>(text)
                                                  : !value.is_structured() && !value.is_boolean();
  if (!fits || text.empty())
    fail("{}: {}: found {}, expected {}", place, option.name, quote(text),
         option.type == Type::integer  ? "an integer"
         : option.type == Type::number ? "a number"
                                       : "text that is not empty");
  const std::vector<std::string> choices = option.choices();
  if (!choices.empty() && std::find(choices.begin(), choices.end(), text) == choices.end())
    fail("{}: {}: found {}, expected one of {}", place, option.name, quote(text),
         fmt::join(choices, ", "));
  return text;
}

}  // namespace

std::vector<std::string> DriverOption::choices() const {
  std::vector<std::string> words;
  if (value.find('|') == std::string::npos) return words;
  for (size_t begin = 0; begin <= value.size();) {
    const size_t end = std::min(value.find('|', begin), value.size());
    words.push_back(value.substr(begin, end - begin));
    begin = end + 1;
  }
  return words;
}

const DriverOption& DriverInfo::option(std::string_view wanted, std::string_view place) const {
  if (std::find(kReserved.begin(), kReserved.end(), wanted) != kReserved.end())
    fail("{}: --{} is given to every driver already; remove it", place, wanted);
  std::vector<std::string> names;
  for (const DriverOption& known : options) {
    if (known.name == wanted) return known;
    if (std::find(kReserved.begin(), kReserved.end(), known.name) == kReserved.end())
      names.push_back(known.name);
  }
  fail("{}: {} has no option {}{}", place, name, quote(wanted), did_you_mean(wanted, names));
}

std::string DriverInfo::no_effect(std::string_view wanted, const OrderedJson& given) const {
  const auto is_given = [&](const std::string& key) {
    return given.contains(key) && given[key] != false;
  };
  const auto value = [&](const std::string& key) -> std::optional<std::string> {
    if (is_given(key)) return as_text(given[key]);
    for (const DriverOption& known : options)
      if (known.name == key) return known.standard;
    return std::nullopt;
  };
  for (const DriverOption& known : options)
    if (known.name == wanted) return vyx::no_effect(wanted, known.conditions, {is_given, value});
  return "";
}

DriverInfo parse_driver_info(std::string_view text, std::string_view source) {
  const Json json = parse_json(text, source);
  DriverInfo info{
      .name = json_string(json, "name", source), .path = {}, .sha256 = {}, .options = {}};
  if (!json.contains("options") || !json["options"].is_array())
    fail("{}: found no list of options", source);
  for (const Json& option : json["options"]) {
    DriverOption& known = info.options.emplace_back(
        DriverOption{.name = json_string(option, "name", source),
                     .value = option.contains("value") ? json_string(option, "value", source) : "",
                     .type = type_from_name(json_string(option, "type", source), source),
                     .many = json_bool(option, "many", source),
                     .required = json_bool(option, "required", source)});
    if (option.contains("default")) known.standard = json_string(option, "default", source);
    if (option.contains("effect"))
      for (const Json& condition : option["effect"])
        known.conditions.push_back(option_condition_from_json(condition, source));
  }
  return info;
}

std::vector<std::string> command_line(const DriverInfo& driver, const OrderedJson& options,
                                      std::string_view place) {
  std::vector<std::string> arguments;
  for (const auto& [name, value] : options.items()) {
    const DriverOption& option = driver.option(name, place);
    if (option.type == Type::flag) {
      if (!value.is_boolean())
        fail("{}: {}: found {}, expected true or false", place, name, quote(as_text(value)));
      if (value.get<bool>()) arguments.push_back("--" + name);
      continue;
    }
    if (value.is_array() && !option.many)
      fail("{}: {}: found a list, expected one value", place, name);
    for (const OrderedJson& element : value.is_array() ? value : OrderedJson::array({value}))
      arguments.push_back(fmt::format(
          "--{}={}", name, checked(option, element, place)));  // one word: "-2" is no option
  }
  for (const DriverOption& option : driver.options)
    if (option.required && !options.contains(option.name))
      fail("{}: {} needs the option {}", place, driver.name, option.name);
  for (const auto& [name, value] : options.items())
    if (const std::string line = driver.no_effect(name, options); !line.empty() && value != false)
      fail("{}: {}: {}", place, driver.name, line);
  return arguments;
}

}  // namespace vyx::ablation
