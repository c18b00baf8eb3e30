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
#include <vector>

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
  bool written = false;  // a path that the program writes to

  /// Whether the value is a path: FILE, FOLDER or PATH.
  bool is_path() const;
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
  void operator()(std::string names, T& field, std::string unit, std::string help,
                  bool required = false);
  /// A list: takes one value each time that it is given, or several in a row if the unit ends in
  /// "…".
  template <class T>
  void operator()(std::string names, std::vector<T>& field, std::string unit, std::string help,
                  bool required = false);
  /// An option without a default: the field keeps nullopt until it is given.
  template <class T>
  void operator()(std::string names, std::optional<T>& field, std::string unit, std::string help);
  /// A switch.
  void operator()(std::string names, bool& field, std::string help);

  /// An option that calls `take` with its value when it is given.
  template <class T>
  void on(std::string names, std::function<void(const T&)> take, std::string unit,
          std::string help);
  /// A switch that calls `take` when it is given.
  void on(std::string names, std::function<void()> take, std::string help);

  /// The option is a path that is written: all other paths are read, and none may be both.
  void writes(std::string_view name);

  const std::vector<OptionRow>& rows() const { return rows_; }
  const po::options_description& parser() const { return *parser_; }

 private:
  void add(const std::string& names, const po::value_semantic* value, OptionRow row);

  std::vector<OptionRow> rows_;
  std::unique_ptr<po::options_description> parser_;
};

}  // namespace vyx::apps
