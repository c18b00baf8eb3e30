// A run from its experiment's file to its folder: what vyx-ablate does.
#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "apps/ablation/manifest.h"
#include "apps/ablation/runner.h"
#include "apps/ablation/verify.h"

namespace vyx::ablation {

/// What to run: a file, and what is changed in it. Later ones go over earlier ones.
struct ExperimentChoice {
  std::filesystem::path file;
  std::vector<std::string> variants;  // "all": each that the file has; none: the file as it is
  std::vector<std::string> settings;  // KEY=VALUE
  // Of each driver; where there is none, as the file says.
  std::optional<int> threads;
  std::optional<uint64_t> seed;
  std::optional<std::string> device;
};

/// The experiments that are chosen, with includes, variants and settings in. Throws Error.
std::vector<NamedExperiment> read_experiments(const ExperimentChoice& choice);

/// Runs what `folder` does not have yet, and writes results, page and manifest there. `name` is how
/// the page calls the folder. Throws Error for a folder that holds something else.
RunResult run_experiments(const std::vector<NamedExperiment>& experiments, const Plan& plan,
                          const std::filesystem::path& folder, const std::string& name,
                          const BuildInfo& build, const RunOptions& options);

/// How many steps were run by another build of their drivers than the plan's.
size_t steps_of_other_builds(const Plan& plan, const RunResult& result);

/// The commands of a plan, one per line, and its size.
std::string to_text(const Plan& plan);
Json to_json(const Plan& plan);
/// The means over seeds, as columns.
std::string table_text(const Plan& plan, const RunResult& result);
Json to_json(const Verification& result, const std::string& run);
std::string to_text(const Verification& result, const std::string& run);

}  // namespace vyx::ablation
