#include <ATen/Parallel.h>

#include <filesystem>
#include <optional>
#include <string>

#include "apps/ablation/build_info.h"
#include "apps/ablation/experiment_run.h"
#include "apps/ablation/installed_drivers.h"
#include "apps/options/driver.h"
#include "apps/options/stop_signal.h"
#include "core/base/error.h"

namespace {

using namespace vyx;
using apps::CommonOptions;

struct Options {
  std::string experiment, out, verify;
  ablation::ExperimentChoice choice;
  int jobs = 1;
  bool dry_run = false;
};

void validate(const Options& options, const CommonOptions& common) {
  if (options.jobs < 1 || options.jobs > 1024)
    throw UsageError(fmt::format("--jobs {}: expected 1 to 1024", options.jobs));
  if (!options.verify.empty()) {
    const bool has_more = !options.experiment.empty() || !options.out.empty() || options.dry_run ||
                          common.given.contains("threads") || common.given.contains("seed") ||
                          common.given.contains("device");
    if (has_more)
      throw UsageError(
          "--verify: takes everything from the run's manifest; expected no experiment and no other "
          "option but --jobs, --variant and --set NAME=FILE");
    return;
  }
  if (options.experiment.empty()) throw UsageError("expected an experiment, a TOML file");
  if (options.out.empty() && !options.dry_run)
    throw UsageError("expected --out, a folder for the run");
}

/// What both ways of running share: progress, and a stop that is asked for by a signal.
ablation::RunOptions run_options(const Options& options, const CommonOptions& common,
                                 std::optional<Progress>& progress) {
  return {.jobs = options.jobs,
          .on_start =
              [&](size_t cells) { progress.emplace("Running", cells, "cells", common.progress()); },
          .on_cells = [&](size_t cells) { progress->advance(cells); },
          .should_stop = [] { return apps::stop_signal() != 0; }};
}

/// How a run ended, for the exit code.
enum class Outcome { good, bad, stopped };

Json run_experiment(Options& options, const CommonOptions& common, Outcome& outcome) {
  options.choice.file = options.experiment;
  if (common.given.contains("threads"))
    options.choice.threads = common.threads > 0 ? common.threads : at::get_num_threads();
  if (common.given.contains("seed")) options.choice.seed = common.seed;
  if (common.given.contains("device")) options.choice.device = common.device;
  const auto experiments = ablation::read_experiments(options.choice);
  ablation::InstalledDrivers drivers(ablation::program_folder());
  const auto folder = (std::filesystem::absolute(options.out.empty() ? "run" : options.out) / "")
                          .lexically_normal()
                          .parent_path();
  const ablation::Plan plan = ablation::make_plan(experiments, drivers, folder);
  if (options.dry_run) {
    if (!common.json) fmt::print("{}", ablation::to_text(plan));
    return ablation::to_json(plan);
  }
  std::optional<Progress> progress;
  const ablation::RunResult result =
      ablation::run_experiments(experiments, plan, folder, options.out, ablation::build_info(),
                                run_options(options, common, progress));
  progress.reset();

  if (const size_t steps = ablation::steps_of_other_builds(plan, result); steps > 0)
    common.warn(
        fmt::format("{} steps were run by another build of their drivers; choose another --out to "
                    "run them again",
                    steps));
  if (result.stopped) {
    outcome = Outcome::stopped;
    common.warn(fmt::format("stopped after {} of {} cells; the same command goes on",
                            result.rows.size(), plan.cells.size()));
  } else if (result.failed() > 0) {
    outcome = Outcome::bad;
    common.warn(fmt::format("{} of {} cells failed; {} says why", result.failed(),
                            plan.cells.size(), (folder / "results.jsonl").string()));
  }
  if (!common.json)
    fmt::print("{}{}: {} cells, {} failed; {} steps run, {} found; {}/index.html\n",
               ablation::table_text(plan, result), options.out, result.rows.size(), result.failed(),
               result.steps_run, result.steps_found, options.out);
  return {{"out", options.out},
          {"cells", plan.cells.size()},
          {"done", result.rows.size()},
          {"failed", result.failed()},
          {"steps_run", result.steps_run},
          {"steps_found", result.steps_found},
          {"stopped", result.stopped}};
}

Json verify_run(const Options& options, const CommonOptions& common, Outcome& outcome) {
  ablation::InstalledDrivers drivers(ablation::program_folder());
  std::optional<Progress> progress;
  const ablation::Verification result =
      ablation::verify(options.verify, drivers, {options.choice.variants, options.choice.settings},
                       run_options(options, common, progress));
  progress.reset();
  if (result.stopped) {
    outcome = Outcome::stopped;
    common.warn("stopped; nothing was compared");
    return {{"stopped", true}};
  }
  if (result.difference) outcome = Outcome::bad;
  if (!common.json) fmt::print("{}", ablation::to_text(result, options.verify));
  return ablation::to_json(result, options.verify);
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  apps::Driver driver(
      "vyx-ablate", "experiment.toml --out runs/x | --verify runs/x",
      "Runs other drivers over a grid of options that a TOML file describes, what several cells "
      "need only once, and gathers chosen numbers: results.jsonl, results.csv, a page, and a "
      "manifest. Runs what is missing; a cell that fails stops no other.",
      "  vyx-ablate apps/experiments/methods.toml --variant small --set model=smollm2.pt \\\n"
      "             --out runs/methods\n"
      "  vyx-ablate --verify runs/methods");
  driver.positional("experiment");
  auto& option = driver.options();
  option("experiment", options.experiment, "FILE",
         "what to run, TOML (apps/experiments/README.md)");
  option("out,o", options.out, "FOLDER", "of the run; an earlier one is completed");
  option("jobs,j", options.jobs, "N", "processes at a time");
  option("variant", options.choice.variants, "NAME",
         "of the experiment; may be given more than once, to run several side by side; all: each "
         "of them; with --verify, those of the run to verify");
  option("set", options.choice.settings, "KEY=VALUE",
         "instead of what the file says: a name in [files], [values] or [grid], or a path such as "
         "steps.sweep.options.max-kl; may be given more than once; with --verify, where an input "
         "in [files] lies now");
  option("dry-run", options.dry_run, "show the command of each step, and run none");
  option("verify", options.verify, "FOLDER",
         "run that run again and compare, bit by bit; inputs must be what they were");
  option.writes("out");
  driver.result({{"out", "the run's folder"},
                 {"cells", "of the grid"},
                 {"done", "cells with a row in results.jsonl"},
                 {"failed", "cells with an error"},
                 {"steps_run", "now"},
                 {"steps_found", "that an earlier run had finished"},
                 {"stopped", "by a signal"}},
                "of a run");
  driver.result({{"cells", "of the grid"},
                 {"steps", "in the order of running", "step, driver, arguments, needs"}},
                "with --dry-run");
  driver.result({{"run", "the folder"},
                 {"cells", "that were compared"},
                 {"identical", "whether all were, bit by bit"},
                 {"files", "that steps wrote"},
                 {"other_files", "those with other bytes; logs of speed have"},
                 {"difference?", "the first", "cell, key, what, before, after"}},
                "with --verify");
  driver.result({{"stopped", "true: by a signal, nothing was compared"}}, "with --verify, stopped");

  Outcome outcome = Outcome::good;
  const int code = driver.run(argc, argv, [&](const CommonOptions& common) {
    validate(options, common);
    apps::catch_stop_signals();
    return options.verify.empty() ? run_experiment(options, common, outcome)
                                  : verify_run(options, common, outcome);
  });
  if (code != 0 || outcome == Outcome::good) return code;
  return outcome == Outcome::stopped ? 128 + apps::stop_signal() : 1;
}
