// What all drivers share: options that mean the same everywhere, --help and --version, errors as
// one line, exit codes.
#pragma once
#include <c10/core/Device.h>
#include <fmt/format.h>
#include <boost/program_options.hpp>

#include <cstdint>
#include <functional>
#include <string>

#include "core/base/json_guard.h"
#include "core/base/progress.h"
#include "core/base/stopwatch.h"

namespace vyx::apps {

namespace po = boost::program_options;

struct CommonOptions {
  bool json = false;   // one JSON object on stdout, nothing else
  bool quiet = false;  // no progress, no warnings
  uint64_t seed = 0;
  int threads = 0;  // 0: as many as there are cores
  std::string device = "cpu";

  c10::Device torch_device()
      const;  // throws UsageError for a name that is none, Error for a device that is not there
  bool progress() const { return !quiet; }      // goes to stderr, with --json too
  void warn(const std::string& message) const;  // one line on stderr
};

/// One program: its options, then its work.
class Driver {
 public:
  /// `usage` follows the name ("SOURCE.gguf --out model.pt"); `summary` is a sentence or two;
  /// `examples` are whole command lines.
  Driver(std::string name, std::string usage, std::string summary, std::string examples);

  /// Adds options: `driver.options()("out,o", po::value(&out)->required(), "the archive to
  /// write")`.
  po::options_description_easy_init options() { return own_.add_options(); }
  /// The option that an argument without a name goes to.
  void positional(const char* option, int count = 1) { positional_.add(option, count); }

  /// Parses, works, reports. `work` prints its own text on stdout unless `json`, and returns what
  /// --json prints. Returns main's exit code: 0; 1 with one line on stderr for an error; 2 for
  /// wrong usage.
  int run(int argc, char** argv, const std::function<Json(const CommonOptions&)>& work);

 private:
  int parse_and_work(int argc, char** argv, const std::function<Json(const CommonOptions&)>& work);
  void print_help() const;

  std::string name_, usage_, summary_, examples_;
  CommonOptions common_;
  po::options_description own_, shared_;
  po::positional_options_description positional_;
};

/// "happy.gguf=1.5" → {"happy.gguf", 1.5}; a text without "=" has the number `without`. The last
/// "=" counts.
struct NamedNumber {
  std::string name;
  double number;
};
NamedNumber parse_named_number(const std::string& text, double without);  // throws UsageError

/// A number for JSON, which has no NaN and no infinity: null.
Json json_number_or_null(double value);

}  // namespace vyx::apps
