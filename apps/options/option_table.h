// A program's options as a table, one per line: names, the field that takes the value, what stands
// for the value in --help, and what the option means. Boost.Program_options parses.
//
//     option("model,m", model, "FILE", "the archive of vyx-import", kRequired);
//     option("top-k", sampling.top_k, "K", "keep the K most probable tokens; 0: all");
//     option("chat", chat, "the prompt is a user's message; the model answers");
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/option_effect.h"

// Boost's headers cost a unit 8 s: drivers do without them.
namespace boost::program_options {
class options_description;
class value_semantic;
}  // namespace boost::program_options

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
  bool written = false;                          // a path that the program writes to
  std::vector<OptionCondition> conditions = {};  // under which it has an effect: all of them

  /// Whether the value is a path: FILE, FOLDER or PATH.
  bool is_path() const;

  // They add a condition. What is given without effect is wrong usage; --help says when it has one.
  //
  //     option("latent", …).needs("sae");             // one of these is given
  //     option("device", …).not_with("activations");  // none of these is given
  //     option("l0-target", …).only_with("sparsity-form", {"l0-target"});  // its value
  //     option("top-k", …).unless("temperature", "0");

  template <class... Names>
  OptionRow& needs(Names... options) {
    return with({OptionCondition::Kind::needs, {std::string(options)...}, {}});
  }
  template <class... Names>
  OptionRow& not_with(Names... options) {
    return with({OptionCondition::Kind::not_with, {std::string(options)...}, {}});
  }
  OptionRow& only_with(std::string option, std::vector<std::string> values) {
    return with({OptionCondition::Kind::only_with, {std::move(option)}, std::move(values)});
  }
  OptionRow& unless(std::string option, std::string value) {
    return with({OptionCondition::Kind::unless, {std::move(option)}, {std::move(value)}});
  }
  /// The program does not read it: `reason`.
  OptionRow& never(std::string reason) {
    return with({OptionCondition::Kind::never, {}, {std::move(reason)}});
  }

 private:
  OptionRow& with(OptionCondition condition) {
    conditions.push_back(std::move(condition));
    return *this;
  }
};

/// Fields are of type int, int64_t, uint64_t, double or std::string; switches are bool.
class OptionTable {
 public:
  OptionTable();
  OptionTable(OptionTable&&) noexcept;
  ~OptionTable();

  /// An option with a value, a number or text. What `field` holds now is the default, unless it is
  /// an empty text.
  template <class T>
  OptionRow& operator()(std::string names, T& field, std::string unit, std::string help,
                        bool required = false);
  /// A list: takes one value each time that it is given, or several in a row if the unit ends in
  /// "…".
  template <class T>
  OptionRow& operator()(std::string names, std::vector<T>& field, std::string unit,
                        std::string help, bool required = false);
  /// An option without a default: the field keeps nullopt until it is given.
  template <class T>
  OptionRow& operator()(std::string names, std::optional<T>& field, std::string unit,
                        std::string help);
  /// A switch.
  OptionRow& operator()(std::string names, bool& field, std::string help);

  /// An option that calls `take` with its value when it is given.
  template <class T>
  OptionRow& on(std::string names, std::function<void(const T&)> take, std::string unit,
                std::string help);
  /// A switch that calls `take` when it is given.
  OptionRow& on(std::string names, std::function<void()> take, std::string help);

  /// The option is a path that is written: all other paths are read, and none may be both.
  void writes(std::string_view name);

  const std::vector<OptionRow>& rows() const { return rows_; }
  OptionRow& row(std::string_view name);  // throws Error
  const po::options_description& parser() const { return *parser_; }

 private:
  OptionRow& add(const std::string& names, const po::value_semantic* value, OptionRow row);

  std::vector<OptionRow> rows_;
  std::unique_ptr<po::options_description> parser_;
};

}  // namespace vyx::apps
