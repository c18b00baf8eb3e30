#include "apps/ablation/manifest.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/base/json_guard.h"
#include "core/io/digest.h"
#include "core/io/files.h"

namespace vyx::ablation {
namespace {

constexpr const char* kName = "manifest.json";

OrderedJson seeds_of(const Experiment& experiment) {
  OrderedJson seeds{{"seed", experiment.seed}};
  for (const auto& [key, values] : experiment.grid)
    if (std::find(experiment.seeds.begin(), experiment.seeds.end(), key) != experiment.seeds.end())
      seeds[key] = values;
  return seeds;
}

}  // namespace

Manifest manifest_of(const BuildInfo& build, const std::vector<NamedExperiment>& experiments,
                     const Plan& plan, const std::filesystem::path& folder,
                     const RunResult* result) {
  Manifest manifest{.build = build,
                    .machine = this_machine(),
                    .experiments = experiments,
                    .inputs = plan.inputs,
                    .drivers = plan.drivers,
                    .cells = plan.cells.size()};
  if (result == nullptr) return manifest;
  for (const auto& [id, record] : result->records) {
    manifest.inputs.insert(record.inputs.begin(), record.inputs.end());
    for (const auto& [name, file] : record.files)
      manifest.outputs["steps/" + id + "/files/" + name] = file.sha256;
  }
  for (const char* name : {"results.jsonl", "results.csv", "index.html"})
    if (std::filesystem::exists(folder / name)) manifest.outputs[name] = sha256_file(folder / name);
  manifest.failed = result->failed();
  manifest.finished = result->rows.size() == plan.cells.size();
  return manifest;
}

void write_manifest(const Manifest& manifest, const std::filesystem::path& folder) {
  OrderedJson experiments = OrderedJson::array();
  for (const auto& [variant, experiment] : manifest.experiments)
    experiments.push_back({{"variant", variant},
                           {"seeds", seeds_of(experiment)},
                           {"threads", experiment.threads},
                           {"device", experiment.device},
                           {"experiment", experiment.document.value}});
  const OrderedJson json{{"vyx", manifest.build.version},
                         {"commit", manifest.build.commit},
                         {"packages", manifest.build.packages},
                         {"machine",
                          {{"cpu", manifest.machine.cpu},
                           {"flags", manifest.machine.flags},
                           {"cores", manifest.machine.cores}}},
                         {"cells", manifest.cells},
                         {"failed", manifest.failed},
                         {"finished", manifest.finished},
                         {"experiments", experiments},
                         {"drivers", manifest.drivers},
                         {"inputs", manifest.inputs},
                         {"outputs", manifest.outputs}};
  write_file(folder / kName,
             json.dump(2, ' ', false, OrderedJson::error_handler_t::replace) + "\n");
}

Manifest read_manifest(const std::filesystem::path& folder) {
  const auto path = folder / kName;
  std::error_code unknown;
  if (!std::filesystem::exists(path, unknown))
    fail("{}: found no {}, expected a run of vyx-ablate", folder.string(), kName);
  const std::string text = read_text_file(path), source = path.string();
  const Json guarded = parse_json(text, source);
  Manifest manifest{
      .build = {.version = json_string(guarded, "vyx", source),
                .commit = json_string(guarded, "commit", source)},
      .cells = static_cast<size_t>(json_integer(guarded, "cells", source, 0, INT64_MAX)),
      .failed = static_cast<size_t>(json_integer(guarded, "failed", source, 0, INT64_MAX)),
      .finished = json_bool(guarded, "finished", source)};
  try {
    const OrderedJson json = OrderedJson::parse(text);  // again, for the order of its keys
    json.at("inputs").get_to(manifest.inputs);
    json.at("drivers").get_to(manifest.drivers);
    json.at("outputs").get_to(manifest.outputs);
    for (const OrderedJson& named : json.at("experiments")) {
      Document document{.value = named.at("experiment")};
      document.places[""] = source;
      manifest.experiments.push_back(
          {named.at("variant").get<std::string>(), parse_experiment(document)});
    }
  } catch (const OrderedJson::exception&) {
    fail("{}: malformed; expected what vyx-ablate writes", source);
  }
  return manifest;
}

}  // namespace vyx::ablation
