// When an option of a program has an effect: said once, where the option is declared; checked where
// a command line is read and where one is planned; shown by --help.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/json_guard.h"

namespace vyx {

struct OptionCondition {
  enum class Kind {
    needs,      // one of `options` is given
    not_with,   // none of `options` is given
    only_with,  // the one of `options` has one of `values`, given or by default
    unless,     // it has none of them
    never,      // the program does not read it; `values` says why
  };
  Kind kind = Kind::needs;
  std::vector<std::string> options, values;
};

/// What is known of the options of one command line.
struct GivenOptions {
  std::function<bool(const std::string& name)> given;
  /// Its value, given or by default; nullopt: it has none.
  std::function<std::optional<std::string>(const std::string& name)> value;
};

/// Why the option has no effect there, as a line that says when it has one; "" if it has.
std::string no_effect(std::string_view name, const std::vector<OptionCondition>& conditions,
                      const GivenOptions& options);

/// For --help: "only with --sae".
std::string to_text(const OptionCondition& condition);

Json to_json(const OptionCondition& condition);
/// Throws Error that begins with `source`.
OptionCondition option_condition_from_json(const Json& json, std::string_view source);

}  // namespace vyx
