// A program's options as a table, one per line: names, the field that takes the value, what stands
// for the value in --help, and what the option means. Boost.Program_options parses.
//
//     option("model,m", model, "FILE", "the archive of vyx-import", kRequired);
//     option("top-k", sampling.top_k, "K", "keep the K most probable tokens; 0: all");
//     option("chat", chat, "the prompt is a user's message; the model answers");
#pragma once
#include <fmt/format.h>
#include <boost/program_options.hpp>

#include <concepts>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace vyx::apps {

namespace po = boost::program_options;

inline constexpr bool kRequired = true;

/// What --help says of an option.
struct OptionRow {
  std::string name;                     // "out"
  char letter = 0;                      // 'o', or 0
  std::string_view type;                // switch, integer, number or text
  std::string unit;                     // FILE, N, …; "" of a switch
  std::optional<std::string> standard;  // the default, as a user would type it
  bool many = false;                    // a list: may be given more than once
  bool required = false;
  std::string help;
};

/// How --help --json calls the type of a field.
template <class T>
constexpr std::string_view kTypeOf = std::integral<T> ? "integer" : "number";
template <>
inline constexpr std::string_view kTypeOf<bool> = "switch";
template <>
inline constexpr std::string_view kTypeOf<std::string> = "text";
template <class T>
constexpr std::string_view kTypeOf<std::vector<T>> = kTypeOf<T>;

class OptionTable {
 public:
  /// An option with a value, a number or text. What `field` holds now is the default, unless it is
  /// an empty text.
  template <class T>
  void operator()(std::string names, T& field, std::string unit, std::string help,
                  bool required = false) {
    auto* value = po::value(&field);
    std::optional<std::string> standard;
    if (required) {
      value->required();
    } else if (const std::string text = fmt::format("{}", field); !text.empty()) {
      standard = text;  // not Boost's own text, which has 0.29999999999999999 for 0.3
      value->default_value(field, text);
    }
    add(names, value, row(kTypeOf<T>, std::move(unit), std::move(help), required, standard));
  }
  /// A list: takes one value each time that it is given, or several in a row if the unit ends in
  /// "…".
  template <class T>
  void operator()(std::string names, std::vector<T>& field, std::string unit, std::string help,
                  bool required = false) {
    auto* value = po::value(&field);
    if (required) value->required();
    if (unit.ends_with("…")) value->multitoken();
    OptionRow list = row(kTypeOf<T>, std::move(unit), std::move(help), required, {});
    list.many = true;
    add(names, value, std::move(list));
  }
  /// An option without a default: the field keeps nullopt until it is given.
  template <class T>
  void operator()(std::string names, std::optional<T>& field, std::string unit, std::string help) {
    on<T>(
        std::move(names), [&field](const T& value) { field = value; }, std::move(unit),
        std::move(help));
  }
  /// A switch.
  void operator()(std::string names, bool& field, std::string help) {
    add(names, po::bool_switch(&field), row(kTypeOf<bool>, "", std::move(help), false, {}));
  }

  /// An option that calls `take` with its value when it is given.
  template <class T>
  void on(std::string names, std::function<void(const T&)> take, std::string unit,
          std::string help) {
    auto* value = po::value<T>()->notifier(std::move(take));
    add(names, value, row(kTypeOf<T>, std::move(unit), std::move(help), false, {}));
  }
  /// A switch that calls `take` when it is given.
  void on(std::string names, std::function<void()> take, std::string help);

  const std::vector<OptionRow>& rows() const { return rows_; }
  const po::options_description& parser() const { return parser_; }

 private:
  static OptionRow row(std::string_view type, std::string unit, std::string help, bool required,
                       std::optional<std::string> standard);
  void add(const std::string& names, const po::value_semantic* value, OptionRow row);

  std::vector<OptionRow> rows_;
  po::options_description parser_;
};

}  // namespace vyx::apps
