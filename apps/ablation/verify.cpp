#include "apps/ablation/verify.h"

#include <unistd.h>

#include <algorithm>
#include <map>
#include <set>
#include <sstream>

#include "apps/ablation/reference.h"
#include "core/base/error.h"
#include "core/base/json_guard.h"
#include "core/base/nearest.h"
#include "core/base/text.h"
#include "core/io/digest.h"
#include "core/io/files.h"
#include "core/io/folder_lock.h"

namespace vyx::ablation {
namespace {

constexpr uint64_t kMaxResults = 1u << 30;

// A folder that is removed at the end.
class ScratchFolder {
 public:
  explicit ScratchFolder(const std::filesystem::path& run)
      : path_(run.parent_path() /
              fmt::format("{}.verify-{}", run.filename().string(), ::getpid())) {
    make_folder(path_);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

std::vector<Json> rows_of(const std::string& text, const std::string& source) {
  std::vector<Json> rows;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) {
    rows.push_back(parse_json(line, fmt::format("{}:{}", source, rows.size() + 1)));
    if (!rows.back().is_object() || !rows.back().contains("grid") ||
        !rows.back()["grid"].is_object())
      fail("{}:{}: found no row of results, expected what vyx-ablate writes", source, rows.size());
  }
  return rows;
}

std::string name_of_cell(const Json& row) {
  std::string name = row.contains("variant") ? "variant=" + as_text(row["variant"]) : "";
  for (const auto& [key, value] : row["grid"].items())
    name += (name.empty() ? "" : " ") + key + "=" + as_text(value);
  return name;
}

std::string dump_or_nothing(const Json& object, const std::string& key) {
  return object.contains(key) ? object[key].dump() : "nothing";
}

Difference difference_of(const Json& before, const Json& after, size_t index) {
  Difference difference{.cell = index, .key = name_of_cell(after)};
  std::string key = differing_key(before, after, {"cell", "variant", "grid", "error"}).value_or("");
  const Json *a = &before, *b = &after;
  std::string prefix;
  if ((key == "results" || key == "grid") && before.contains(key) && after.contains(key)) {
    prefix = key + ".";
    a = &before[key];
    b = &after[key];
    key = differing_key(*a, *b).value_or("");
  }
  difference.what = prefix + key;
  difference.before = dump_or_nothing(*a, key);
  difference.after = dump_or_nothing(*b, key);
  return difference;
}

using Paths = std::map<std::string, std::string>;  // of inputs: in the run → now

/// Gives the experiments the files of `settings`.
Paths move_inputs(std::vector<NamedExperiment>& experiments,
                  const std::vector<std::string>& settings) {
  Paths moved;
  for (const std::string& setting : settings) {
    const std::string name = setting.substr(0, setting.find('='));
    for (NamedExperiment& named : experiments) {
      const OrderedJson& files = named.experiment.files;
      if (!files.contains(name))
        throw UsageError(
            fmt::format("--set {}: with --verify, expected NAME=FILE, a name in the run's [files]: "
                        "what else it did stands in its manifest",
                        setting));
      const auto before = files[name].get<std::string>();
      Document document = named.experiment.document;
      set_value(document, setting);
      named.experiment = parse_experiment(std::move(document));
      moved[before] = named.experiment.files[name].get<std::string>();
    }
  }
  return moved;
}

/// Takes the cells of other variants out of the plan, and the steps that only they need.
void keep_variants(Plan& plan, const std::vector<NamedExperiment>& experiments,
                   const std::vector<std::string>& variants) {
  std::vector<std::string> known;
  for (const NamedExperiment& named : experiments) known.push_back(named.variant);
  for (const std::string& variant : variants)
    if (std::find(known.begin(), known.end(), variant) == known.end())
      throw UsageError(fmt::format("--variant {}: the run has none of that name{}", quote(variant),
                                   did_you_mean(variant, known)));
  if (experiments.size() < 2) return;
  std::erase_if(plan.cells, [&](const Cell& cell) {
    return std::find(variants.begin(), variants.end(), cell.variant) == variants.end();
  });
  std::set<std::string> needed;
  for (const Cell& cell : plan.cells) needed.insert(cell.steps.begin(), cell.steps.end());
  std::erase_if(plan.order, [&](const std::string& id) { return !needed.contains(id); });
  std::erase_if(plan.steps, [&](const auto& step) { return !needed.contains(step.first); });
}

/// The lines of results.jsonl that belong to cells of the plan, numbered as those are.
std::string results_of(const std::string& text, const std::string& source,
                       const std::vector<std::string>& variants) {
  std::string kept;
  std::istringstream stream(text);
  int64_t cell = 0;
  for (std::string line; std::getline(stream, line);) {
    (void)parse_json(line, source);
    OrderedJson row = OrderedJson::parse(line);  // again, for the order of its keys
    if (std::find(variants.begin(), variants.end(), row.value("variant", "")) == variants.end())
      continue;
    row["cell"] = cell++;
    kept += row.dump() + "\n";
  }
  return kept;
}

// Checks that the inputs, and what they refer to, are what they were, and that nobody changed what
// the run wrote. What lay beside an input that has moved is not looked for: the results will tell.
void require_unchanged(const std::filesystem::path& run, const Manifest& manifest, const Plan& plan,
                       const Paths& moved) {
  for (const auto& [path, digest] : manifest.inputs) {
    const auto found = moved.find(path);
    const std::string& path_now = found == moved.end() ? path : found->second;
    if (!moved.empty() && !std::filesystem::exists(path_now)) continue;
    const auto planned = plan.inputs.find(path_now);
    const std::string now = planned == plan.inputs.end() ? digest_of(path_now) : planned->second;
    if (now != digest)
      fail("{}: found SHA-256 {}…, expected {}…, that of the run; it has changed since", path_now,
           now.substr(0, 12), digest.substr(0, 12));
  }
  for (const auto& [name, digest] : manifest.outputs)
    if (name.starts_with("steps/") && digest_of(run / name) != digest)
      fail("{}: its bytes are not those that the run wrote; it has changed since",
           (run / name).string());
}

}  // namespace

std::optional<Difference> first_difference(const std::string& before, const std::string& after,
                                           const std::string& source) {
  if (before == after) return std::nullopt;
  const std::vector<Json> old_rows = rows_of(before, source),
                          new_rows = rows_of(after, "the new results");
  for (size_t i = 0; i < std::min(old_rows.size(), new_rows.size()); ++i)
    if (old_rows[i] != new_rows[i]) return difference_of(old_rows[i], new_rows[i], i);
  if (old_rows.size() != new_rows.size())
    return Difference{.cell = std::min(old_rows.size(), new_rows.size()),
                      .what = "rows",
                      .before = std::to_string(old_rows.size()),
                      .after = std::to_string(new_rows.size())};
  return Difference{.what = "text",
                    .before = "other bytes for the same values",
                    .after = "those of this version"};
}

Verification verify(const std::filesystem::path& run_folder, DriverCatalog& drivers,
                    const VerifyChoice& choice, const RunOptions& options) {
  const auto folder = std::filesystem::absolute(run_folder / "").lexically_normal().parent_path();
  Manifest manifest = read_manifest(folder);
  if (!manifest.finished)
    fail("{}: the run has not finished; run it to its end first", folder.string());
  const FolderLock lock(folder);
  const ScratchFolder scratch(folder);
  const Paths moved = move_inputs(manifest.experiments, choice.settings);
  Plan plan = make_plan(manifest.experiments, drivers, scratch.path());
  const bool all = choice.variants.empty() || choice.variants == std::vector<std::string>{"all"};
  if (!all) keep_variants(plan, manifest.experiments, choice.variants);
  require_unchanged(folder, manifest, plan, moved);
  const RunResult again = run(plan, scratch.path(), options);

  Verification verification{.cells = plan.cells.size(), .stopped = again.stopped};
  if (again.stopped) return verification;
  const auto results = folder / "results.jsonl";
  std::string earlier = read_text_file(results, kMaxResults);
  if (!all && manifest.experiments.size() > 1)
    earlier = results_of(earlier, results.string(), choice.variants);
  verification.difference = first_difference(earlier, to_jsonl(again.rows), results.string());
  for (const auto& [id, record] : again.records) {
    for (const auto& [file, written] : record.files) {
      ++verification.files;
      const std::string name = "steps/" + id + "/files/" + file;
      const auto before = manifest.outputs.find(name);
      if (before == manifest.outputs.end() || before->second != written.sha256)
        verification.other_files.push_back(name);
    }
  }
  return verification;
}

}  // namespace vyx::ablation
