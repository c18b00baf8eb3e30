// What a finished step leaves: step.json in its folder, written last and whole. A step without one
// did not finish.
#pragma once
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "apps/ablation/plan.h"
#include "core/base/json_guard.h"

namespace vyx::ablation {

struct OutputFile {
  uint64_t bytes = 0;
  std::string sha256;
};

struct StepRecord {
  Json identity;
  std::string driver_sha256;
  Json output;                              // what --json printed
  std::map<std::string, OutputFile> files;  // by their names below the step's files
  /// path → SHA-256: what the driver read besides its inputs, since these refer to it (a template's
  /// beginnings, a store's shards), and besides what other steps wrote.
  std::map<std::string, std::string> inputs;
  std::vector<std::string> warnings;  // lines of its stderr
  double seconds = 0;
};

/// The record of a step in `folder`, if it finished there: with that identity, and with all its
/// files in their sizes.
std::optional<StepRecord> read_step(const std::filesystem::path& folder, const PlannedStep& step);
void write_step(const std::filesystem::path& folder, const StepRecord& record);

/// The regular files below `folder`, digested.
std::map<std::string, OutputFile> digest_files(const std::filesystem::path& folder);

}  // namespace vyx::ablation
