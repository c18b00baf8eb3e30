// The options of a driver, as `vyx-vector --help --json` lists them.
#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "apps/ablation/document.h"
#include "core/base/option_effect.h"

namespace vyx::ablation {

struct DriverOption {
  enum class Type { flag, integer, number, text };

  std::string name, value;  // value: FILE, N, A|B (one of these), …
  Type type = Type::text;
  bool many = false, required = false;
  std::optional<std::string> standard = std::nullopt;  // its default
  std::vector<OptionCondition> conditions = {};        // under which it has an effect

  /// Whether the value names a file or a folder.
  bool is_path() const {
    return value.starts_with("FILE") || value.starts_with("FOLDER") || value.starts_with("PATH");
  }
  /// The words that it takes, where these are all: A and B of "A|B"; else empty.
  std::vector<std::string> choices() const;
};

struct DriverInfo {
  std::string name;  // "vyx-vector"
  std::filesystem::path path;
  std::string sha256;  // of the program
  std::vector<DriverOption> options;

  /// Throws Error, with `place` before it, naming the nearest option when there is none of that
  /// name.
  const DriverOption& option(std::string_view name, std::string_view place) const;
  /// Why the option would have no effect on a command line of `options`; "" if it would have one.
  std::string no_effect(std::string_view name, const OrderedJson& options) const;
};

/// Reads what --help --json printed. Throws Error.
DriverInfo parse_driver_info(std::string_view json, std::string_view source);

/// The driver's command line for `options`, without the program; switches that are false are left
/// out. Throws Error, with `place` before it, for an option that is unknown, has a value of another
/// type or no effect, or is missing.
std::vector<std::string> command_line(const DriverInfo& driver, const OrderedJson& options,
                                      std::string_view place);

}  // namespace vyx::ablation
