// manifest.json: everything that a run's results came from, enough to run it again.
#pragma once
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "apps/ablation/machine.h"
#include "apps/ablation/plan.h"
#include "apps/ablation/runner.h"

namespace vyx::ablation {

/// How this vyx was built.
struct BuildInfo {
  std::string version,
      commit;  // commit: "unknown" outside git; with "-dirty" when files had changed
  std::map<std::string, std::string> packages;  // "LibTorch" → "2.13.0"
};

struct Manifest {
  BuildInfo build;
  Machine machine;
  std::vector<NamedExperiment> experiments;  // as resolved: includes, variants and --set are in
  std::map<std::string, std::string> inputs, drivers,
      outputs;  // path or name → SHA-256; outputs relative to the run
  size_t cells = 0, failed = 0;
  bool finished = false;
};

/// Of a run that begins (`result` null), or has ended.
Manifest manifest_of(const BuildInfo& build, const std::vector<NamedExperiment>& experiments,
                     const Plan& plan, const std::filesystem::path& folder,
                     const RunResult* result);

void write_manifest(const Manifest& manifest, const std::filesystem::path& folder);
/// Throws Error for a folder that has none, or one that is malformed.
Manifest read_manifest(const std::filesystem::path& folder);

}  // namespace vyx::ablation
