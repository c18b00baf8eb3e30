// Runs what a plan needs and a folder does not have yet.
//
//     runs/x/steps/sweep-3fa9c2d1e0b4a7c8/files/   what the driver wrote; it runs here
//                                         step.json, output.json, errors.txt
//     runs/x/results.jsonl, results.csv, timings.jsonl
#pragma once
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "apps/ablation/plan.h"
#include "apps/ablation/rows.h"
#include "apps/ablation/step_record.h"

namespace vyx::ablation {

struct RunOptions {
  int jobs = 1;                                                // processes at a time
  std::function<void(size_t cells)> on_start = [](size_t) {};  // cells that are not done yet
  std::function<void(size_t cells)> on_cells = [](size_t) {};  // that were done just now
  std::function<bool()> should_stop = [] { return false; };
};

struct RunResult {
  std::vector<Row> rows;                      // of the cells that are done, in the grid's order
  std::map<std::string, StepRecord> records;  // of the steps that succeeded, by id
  size_t steps_run = 0, steps_found = 0;      // in this run, and in runs before it
  bool stopped = false;
  size_t failed() const;
};

/// `folder` exists, is locked, and is absolute. A step that fails is recorded in the rows of its
/// cells, and tried again by the next run. When asked to stop, running drivers get SIGTERM and are
/// waited for. Throws Error when the folder cannot be written.
RunResult run(const Plan& plan, const std::filesystem::path& folder, const RunOptions& options);

}  // namespace vyx::ablation
