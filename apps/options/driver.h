// One program: its options, then its work, then what --json prints. Errors are one line, and the
// exit code says of which kind.
#pragma once
#include <fmt/format.h>

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "apps/options/common_options.h"
#include "apps/options/help.h"
#include "apps/options/numbers.h"
#include "apps/options/option_table.h"
#include "core/base/json_guard.h"
#include "core/base/progress.h"
#include "core/base/stopwatch.h"

namespace vyx::apps {

class Driver {
 public:
  /// `usage` follows the name ("SOURCE.gguf --out model.pt"); `summary` is a sentence or two;
  /// `examples` are whole command lines.
  Driver(std::string name, std::string usage, std::string summary, std::string examples);

  /// The program's own options: `driver.options()("out,o", out, "FILE", "what is written",
  /// kRequired)`.
  OptionTable& options() { return own_; }
  /// One of the common options, to say when it has an effect on this program:
  /// `driver.common("seed").never("nothing here is random")`.
  OptionRow& common(std::string_view option) { return shared_.row(option); }
  /// The option that an argument without a name goes to.
  void positional(std::string option) { positional_.push_back(std::move(option)); }
  /// The keys of what `work` returns, for --help; once for each form that it can have.
  void result(std::vector<ResultKey> keys, std::string when = "") {
    program_.results.push_back({std::move(when), std::move(keys)});
  }

  /// Parses, works, reports. `work` prints its own text on stdout unless `json`, and returns what
  /// --json prints, to which "version" and "files_read" are added. Returns main's exit code: 0; 1
  /// with one line on stderr for an error; 2 for wrong usage.
  int run(int argc, char** argv, const std::function<Json(const CommonOptions&)>& work);

 private:
  int parse_and_work(int argc, char** argv, const std::function<Json(const CommonOptions&)>& work);
  std::vector<OptionGroup> groups() const;
  [[noreturn]] void refuse_unknown(const std::string& given) const;
  /// Throws UsageError for one of the options, as they were given, that has no effect.
  void require_effect(const std::map<std::string, std::string>& given) const;

  Program program_;
  CommonOptions common_;
  bool help_ = false, version_ = false;
  OptionTable own_, shared_;
  std::vector<std::string> positional_;
};

/// A result with its "version" and the "files_read" (core/io/files_read.h), as --json prints it.
Json with_version(Json result);

}  // namespace vyx::apps
