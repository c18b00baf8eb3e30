#include <algorithm>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "apps/ablation/build_info.h"
#include "apps/ablation/installed_drivers.h"
#include "apps/ablation/manifest.h"
#include "apps/ablation/report.h"
#include "apps/ablation/verify.h"
#include "apps/options/driver.h"
#include "apps/options/stop_signal.h"
#include "core/base/error.h"
#include "core/io/files.h"
#include "core/io/folder_lock.h"

namespace {

using namespace vyx;
using namespace vyx::ablation;
using apps::CommonOptions;

struct Options {
  std::string experiment, out, verify;
  int jobs = 1;
  std::vector<std::string> variants, settings;
  bool dry_run = false;
};

void validate(const Options& options) {
  if (options.jobs < 1 || options.jobs > 1024)
    throw UsageError(fmt::format("--jobs {}: expected 1 to 1024", options.jobs));
  if (!options.verify.empty()) {
    if (!options.experiment.empty() || !options.out.empty() || !options.variants.empty() ||
        !options.settings.empty() || options.dry_run)
      throw UsageError(
          "--verify: takes everything from the run's manifest; expected no experiment and no other "
          "option but --jobs");
    return;
  }
  if (options.experiment.empty()) throw UsageError("expected an experiment, a TOML file");
  if (options.out.empty() && !options.dry_run)
    throw UsageError("expected --out, a folder for the run");
}

/// Includes, then the variant, then the command line.
Experiment resolve(const Document& document, const std::string& variant, const Options& options,
                   const CommonOptions& common) {
  Document resolved = with_variant(document, variant);
  for (const std::string& setting : options.settings) set_value(resolved, setting);
  if (common.threads > 0) resolved.value["threads"] = common.threads;
  if (common.seed > 0) resolved.value["seed"] = common.seed;
  if (common.device != "cpu") resolved.value["device"] = common.device;
  return parse_experiment(std::move(resolved));
}

std::vector<NamedExperiment> read_experiments(const Options& options, const CommonOptions& common) {
  const Document document = read_document(options.experiment);
  std::vector<std::string> variants = options.variants;
  if (variants == std::vector<std::string>{"all"}) variants = variants_of(document);
  if (variants.empty()) variants.emplace_back();
  std::vector<NamedExperiment> experiments;
  for (const std::string& variant : variants)
    experiments.push_back(
        {variants.size() > 1 ? variant : "", resolve(document, variant, options, common)});
  return experiments;
}

/// A folder that is new, empty, or a run of ours.
void require_run_folder(const std::filesystem::path& folder) {
  if (!std::filesystem::is_empty(folder) && !std::filesystem::exists(folder / "manifest.json"))
    fail(
        "{}: found a folder with other things in it, expected a new one, or an earlier run of "
        "vyx-ablate",
        folder.string());
}

void print_plan(const Plan& plan) {
  for (const std::string& id : plan.order) {
    const PlannedStep& step = plan.steps.at(id);
    fmt::print("{}: {}", id, step.driver->name);
    for (const std::string& argument : step.arguments) fmt::print(" {}", argument);
    fmt::print("\n");
  }
  fmt::print("{} cells, {} steps\n", plan.cells.size(), plan.steps.size());
}

Json plan_json(const Plan& plan) {
  Json steps = Json::array();
  for (const std::string& id : plan.order) {
    const PlannedStep& step = plan.steps.at(id);
    steps.push_back({{"step", id},
                     {"driver", step.driver->name},
                     {"arguments", step.arguments},
                     {"needs", step.needs}});
  }
  return {{"cells", plan.cells.size()}, {"steps", steps}};
}

void print_table(const std::vector<std::vector<std::string>>& table) {
  std::vector<size_t> widths(table.front().size());
  const auto width = [](const std::string& text) {  // in characters: "±" is one
    return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
      return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
    }));
  };
  for (const auto& row : table)
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width(row[i]));
  for (const auto& row : table) {
    for (size_t i = 0; i < row.size(); ++i)
      fmt::print("{}{}", row[i],
                 std::string(i + 1 == row.size() ? 0 : widths[i] - width(row[i]) + 2, ' '));
    fmt::print("\n");
  }
}

/// What both ways of running share: progress, and a stop that is asked for by a signal.
RunOptions run_options(const Options& options, const CommonOptions& common,
                       std::optional<Progress>& progress) {
  return {.jobs = options.jobs,
          .on_start =
              [&](size_t cells) { progress.emplace("Running", cells, "cells", common.progress()); },
          .on_cells = [&](size_t cells) { progress->advance(cells); },
          .should_stop = [] { return apps::stop_signal() != 0; }};
}

/// How a run ended, for the exit code.
enum class Outcome { good, bad, stopped };

Json run_experiment(const Options& options, const CommonOptions& common, Outcome& outcome) {
  const std::vector<NamedExperiment> experiments = read_experiments(options, common);
  InstalledDrivers drivers(program_folder());
  const auto folder = (std::filesystem::absolute(options.out.empty() ? "run" : options.out) / "")
                          .lexically_normal()
                          .parent_path();
  const Plan plan = make_plan(experiments, drivers, folder);
  if (options.dry_run) {
    if (!common.json) print_plan(plan);
    return plan_json(plan);
  }

  make_folder(folder);
  const FolderLock lock(folder);
  lock.remove_leftovers();
  require_run_folder(folder);
  const BuildInfo build = build_info();
  write_manifest(manifest_of(build, experiments, plan, folder, nullptr), folder);
  std::optional<Progress> progress;
  const RunResult result = run(plan, folder, run_options(options, common, progress));
  progress.reset();
  Manifest manifest = manifest_of(build, experiments, plan, folder, &result);
  write_file(folder / "index.html", report_page(plan, result, manifest, options.out));
  manifest = manifest_of(build, experiments, plan, folder, &result);  // with the page's digest
  write_manifest(manifest, folder);

  size_t other_build = 0;
  for (const auto& [id, record] : result.records)
    other_build += record.driver_sha256 != plan.steps.at(id).driver->sha256;
  if (other_build > 0)
    common.warn(
        fmt::format("{} steps were run by another build of their drivers; choose another --out to "
                    "run them again",
                    other_build));
  if (result.stopped) {
    outcome = Outcome::stopped;
    common.warn(fmt::format("stopped after {} of {} cells; the same command goes on",
                            result.rows.size(), plan.cells.size()));
  } else if (result.failed() > 0) {
    outcome = Outcome::bad;
    common.warn(fmt::format("{} of {} cells failed; {} says why", result.failed(),
                            plan.cells.size(), (folder / "results.jsonl").string()));
  }
  if (!common.json) {
    if (!result.rows.empty()) print_table(table_of(plan, result.rows));
    fmt::print("{}: {} cells, {} failed; {} steps run, {} found; {}/index.html\n", options.out,
               result.rows.size(), result.failed(), result.steps_run, result.steps_found,
               options.out);
  }
  return {{"out", options.out},
          {"cells", plan.cells.size()},
          {"done", result.rows.size()},
          {"failed", result.failed()},
          {"steps_run", result.steps_run},
          {"steps_found", result.steps_found},
          {"stopped", result.stopped}};
}

Json verify_run(const Options& options, const CommonOptions& common, Outcome& outcome) {
  InstalledDrivers drivers(program_folder());
  std::optional<Progress> progress;
  const Verification result =
      verify(options.verify, drivers, run_options(options, common, progress));
  progress.reset();
  if (result.stopped) {
    outcome = Outcome::stopped;
    common.warn("stopped; nothing was compared");
    return {{"stopped", true}};
  }
  Json json{{"run", options.verify},
            {"cells", result.cells},
            {"identical", !result.difference},
            {"files", result.files},
            {"other_files", result.other_files}};
  if (result.difference) {
    const Difference& difference = *result.difference;
    outcome = Outcome::bad;
    json["difference"] = {{"cell", difference.cell},
                          {"key", difference.key},
                          {"what", difference.what},
                          {"before", difference.before},
                          {"after", difference.after}};
    if (!common.json)
      fmt::print("{}: differs, first in cell {} ({}): {} was {}, is {} now\n", options.verify,
                 difference.cell, difference.key, difference.what, difference.before,
                 difference.after);
  } else if (!common.json) {
    fmt::print("{}: bit-identical in {} cells\n", options.verify, result.cells);
  }
  if (!common.json && !result.other_files.empty()) {
    fmt::print("{} of {} files that steps wrote have other bytes (logs of speed do):\n",
               result.other_files.size(), result.files);
    for (const std::string& name : result.other_files) fmt::print("  {}\n", name);
  }
  return json;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  apps::Driver driver("vyx-ablate", "experiment.toml --out runs/x | --verify runs/x",
                      "Runs other drivers over a grid of options that a TOML file describes, what "
                      "several cells need only once, and gathers\n"
                      "chosen numbers: results.jsonl, results.csv, a page, and a manifest. Runs "
                      "what is missing; a failed cell stops no other.",
                      "  vyx-ablate apps/experiments/methods.toml --variant small --set "
                      "model=smollm2.pt --out runs/methods\n"
                      "  vyx-ablate --verify runs/methods");
  driver.positional("experiment");
  driver.options()("experiment", apps::po::value(&options.experiment)->value_name("FILE"),
                   "what to run (apps/experiments/README.md)")(
      "out,o", apps::po::value(&options.out)->value_name("FOLDER"),
      "of the run; an earlier one is completed")(
      "jobs,j", apps::po::value(&options.jobs)->default_value(options.jobs)->value_name("N"),
      "processes at a time")("variant",
                             apps::po::value(&options.variants)->composing()->value_name("NAME"),
                             "of the experiment; several are run side by side; all: each of them")(
      "set", apps::po::value(&options.settings)->composing()->value_name("KEY=VALUE"),
      "instead of what the file says: a name in [files], [values] or [grid], or a path such as "
      "steps.sweep.options.max-kl")("dry-run", apps::po::bool_switch(&options.dry_run),
                                    "show the command of each step, and run none")(
      "verify", apps::po::value(&options.verify)->value_name("FOLDER"),
      "run that run again and compare, bit by bit");

  Outcome outcome = Outcome::good;
  const int code = driver.run(argc, argv, [&](const CommonOptions& common) {
    validate(options);
    apps::catch_stop_signals();
    return options.verify.empty() ? run_experiment(options, common, outcome)
                                  : verify_run(options, common, outcome);
  });
  if (code != 0 || outcome == Outcome::good) return code;
  return outcome == Outcome::stopped ? 128 + apps::stop_signal() : 1;
}
