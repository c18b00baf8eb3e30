// The options that mean the same in every program.
#pragma once
#include <c10/core/Device.h>

#include <cstdint>
#include <set>
#include <string>

#include "apps/options/option_table.h"

namespace vyx::apps {

struct CommonOptions {
  bool json = false;   // one JSON object on stdout, nothing else
  bool quiet = false;  // no progress, no warnings
  uint64_t seed = 0;
  int threads = 0;  // 0: as many as there are cores
  std::string device = "cpu";
  bool trust = false;  // load TorchScript that vetting refuses
  /// The names of the options, of this program's too, that were typed: what is typed goes over what
  /// a file says, also where it is the default.
  std::set<std::string> given;

  void add_to(OptionTable& option);
  void apply() const;  // sets the number of threads, and trust; throws UsageError

  /// Throws UsageError for a name that is none, Error for a device that is not there.
  c10::Device torch_device() const;
  bool progress() const { return !quiet; }      // goes to stderr, with --json too
  void warn(const std::string& message) const;  // one line on stderr
};

}  // namespace vyx::apps
