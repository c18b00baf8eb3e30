// An experiment worked out: which cells it has, and which processes have to run for them. Cells
// that need the same step share it.
#pragma once
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "apps/ablation/driver_info.h"
#include "apps/ablation/experiment.h"

namespace vyx::ablation {

struct PlannedStep {
  // "sweep-3fa9c2d1e0b4a7c8": its driver and the beginning of its identity's SHA-256.
  std::string id;
  const DriverInfo* driver = nullptr;
  /// What decides its outputs: driver, version, options, with files as their digests and steps as
  /// their ids.
  OrderedJson identity;
  std::vector<std::string> arguments;  // without the program
  std::vector<std::string> needs;      // ids of steps
  bool resumes = false;
};

struct CellResult {
  std::string name, step, path;  // step: an id
};

struct Cell {
  std::string variant;                                   // where there are several
  std::vector<std::pair<std::string, OrderedJson>> key;  // grid key → label
  std::vector<std::string> seeds;  // those of the keys that tables average over
  std::vector<std::string> steps;  // ids of all steps
  std::vector<CellResult> results;
};

struct Plan {
  std::vector<Cell> cells;                    // in the grid's order
  std::map<std::string, PlannedStep> steps;   // by id
  std::vector<std::string> order;             // of the ids: a step stands after those that it needs
  std::map<std::string, std::string> inputs;  // path → SHA-256
  std::map<std::string, std::string> drivers;  // name → SHA-256
};

/// Where steps find the drivers that they name, and what these can do.
class DriverCatalog {
 public:
  virtual ~DriverCatalog() = default;
  /// Throws Error, with `place` before it, for a driver that is not there.
  virtual const DriverInfo& find(const std::string& name, const std::string& place) = 0;
};

struct NamedExperiment {
  std::string variant;  // "": the file as it is
  Experiment experiment;
};

/// `folder` is the run's, absolute: steps write below folder/steps. Reads every input to digest it.
/// Throws Error for references that mean nothing, options that a driver does not have or that have
/// a value of another type, files that are not there, and steps that need each other in a circle:
/// everything that can be found before anything runs.
Plan make_plan(const std::vector<NamedExperiment>& experiments, DriverCatalog& drivers,
               const std::filesystem::path& folder);

/// The folder that a step's driver runs in and writes to.
std::filesystem::path files_folder(const std::filesystem::path& run, const std::string& step_id);

/// SHA-256 of a file, or of a folder: of its files' names and digests. Throws Error when there is
/// neither.
std::string digest_of(const std::filesystem::path& path);

}  // namespace vyx::ablation
