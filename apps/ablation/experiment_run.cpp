#include "apps/ablation/experiment_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "apps/ablation/report.h"
#include "core/base/display_width.h"
#include "core/base/error.h"
#include "core/io/files.h"
#include "core/io/folder_lock.h"

namespace vyx::ablation {
namespace {

/// Includes, then the variant, then what was given for this run.
Experiment resolve(const Document& document, const std::string& variant,
                   const ExperimentChoice& choice) {
  Document resolved = with_variant(document, variant);
  for (const std::string& setting : choice.settings) set_value(resolved, setting);
  if (choice.threads) resolved.value["threads"] = *choice.threads;
  if (choice.seed) resolved.value["seed"] = *choice.seed;
  if (choice.device) resolved.value["device"] = *choice.device;
  return parse_experiment(std::move(resolved));
}

/// A folder that is new, empty, or a run of ours.
void require_run_folder(const std::filesystem::path& folder) {
  if (!std::filesystem::is_empty(folder) && !std::filesystem::exists(folder / "manifest.json"))
    fail(
        "{}: found a folder with other things in it, expected a new one, or an earlier run of "
        "vyx-ablate",
        folder.string());
}

}  // namespace

std::vector<NamedExperiment> read_experiments(const ExperimentChoice& choice) {
  const Document document = read_document(choice.file);
  std::vector<std::string> variants = choice.variants;
  if (variants == std::vector<std::string>{"all"}) variants = variants_of(document);
  if (variants.empty()) variants.emplace_back();
  std::vector<NamedExperiment> experiments;
  for (const std::string& variant : variants)
    experiments.push_back({variant, resolve(document, variant, choice)});
  return experiments;
}

RunResult run_experiments(const std::vector<NamedExperiment>& experiments, const Plan& plan,
                          const std::filesystem::path& folder, const std::string& name,
                          const BuildInfo& build, const RunOptions& options) {
  make_folder(folder);
  const FolderLock lock(folder);
  lock.remove_leftovers();
  require_run_folder(folder);
  write_manifest(manifest_of(build, experiments, plan, folder, nullptr), folder);
  const RunResult result = run(plan, folder, options);
  Manifest manifest = manifest_of(build, experiments, plan, folder, &result);
  write_file(folder / "index.html", report_page(plan, result, manifest, name));
  manifest = manifest_of(build, experiments, plan, folder, &result);  // with the page's digest
  write_manifest(manifest, folder);
  return result;
}

size_t steps_of_other_builds(const Plan& plan, const RunResult& result) {
  return static_cast<size_t>(
      std::count_if(result.records.begin(), result.records.end(), [&](const auto& entry) {
        return entry.second.driver_sha256 != plan.steps.at(entry.first).driver->sha256;
      }));
}

std::string to_text(const Plan& plan) {
  std::string text;
  for (const std::string& id : plan.order) {
    const PlannedStep& step = plan.steps.at(id);
    text += fmt::format("{}: {}", id, step.driver->name);
    for (const std::string& argument : step.arguments) text += " " + argument;
    text += "\n";
  }
  return text + fmt::format("{} cells, {} steps\n", plan.cells.size(), plan.steps.size());
}

Json to_json(const Plan& plan) {
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

std::string table_text(const Plan& plan, const RunResult& result) {
  if (result.rows.empty()) return "";
  const std::vector<std::vector<std::string>> table = table_of(plan, result.rows);
  std::vector<size_t> widths(table.front().size());
  for (const auto& row : table)
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], display_width(row[i]));
  std::string text;
  for (const auto& row : table) {
    for (size_t i = 0; i + 1 < row.size(); ++i)
      text += row[i] + std::string(widths[i] - display_width(row[i]) + 2, ' ');
    text += row.back() + "\n";
  }
  return text;
}

Json to_json(const Verification& result, const std::string& run) {
  Json json{{"run", run},
            {"cells", result.cells},
            {"identical", !result.difference},
            {"files", result.files},
            {"other_files", result.other_files}};
  if (result.difference) {
    const auto& [cell, key, what, before, after] = *result.difference;
    json["difference"] = {
        {"cell", cell}, {"key", key}, {"what", what}, {"before", before}, {"after", after}};
  }
  return json;
}

std::string to_text(const Verification& result, const std::string& run) {
  std::string text = fmt::format("{}: bit-identical in {} cells\n", run, result.cells);
  if (result.difference) {
    const auto& [cell, key, what, before, after] = *result.difference;
    text = fmt::format("{}: differs, first in cell {} ({}): {} was {}, is {} now\n", run, cell, key,
                       what, before, after);
  }
  if (!result.other_files.empty())
    text += fmt::format("{} of {} files that steps wrote have other bytes (logs of speed do):\n",
                        result.other_files.size(), result.files);
  for (const std::string& name : result.other_files) text += fmt::format("  {}\n", name);
  return text;
}

}  // namespace vyx::ablation
