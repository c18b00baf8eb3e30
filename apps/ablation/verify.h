// Does a run give the same bits again?
#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "apps/ablation/manifest.h"

namespace vyx::ablation {

struct Difference {
  size_t cell = 0;
  std::string key;            // "method=mean layer=8"
  std::string what;           // "results.shift"
  std::string before, after;  // as JSON
};

/// The first row, and in it the first key, that differs between two results.jsonl. Throws Error for
/// a line that is not a row.
std::optional<Difference> first_difference(const std::string& before, const std::string& after,
                                           const std::string& source);

struct Verification {
  size_t cells = 0;
  std::optional<Difference> difference;  // none: all rows are bit-identical
  size_t files = 0;
  // Files that steps wrote with other bytes this time, such as logs with timings.
  std::vector<std::string> other_files;
  bool stopped = false;
};

/// What to verify of a run, and with what.
struct VerifyChoice {
  std::vector<std::string> variants;  // of the run's; none, or "all": each
  std::vector<std::string> settings;  // NAME=FILE: where an input in [files] lies now
};

/// Runs what the manifest of `run` says again, in a folder beside it that is removed at the end,
/// and compares. Throws Error for a run that did not finish, and when inputs, or what they refer
/// to, are not what they were or files of the run are not what it wrote; UsageError for a variant
/// that the run has not, and a setting that is no input.
Verification verify(const std::filesystem::path& run, DriverCatalog& drivers,
                    const VerifyChoice& choice, const RunOptions& options);

}  // namespace vyx::ablation
