#include "apps/ablation/verify.h"

#include <unistd.h>

#include <algorithm>
#include <sstream>

#include "apps/ablation/reference.h"
#include "core/base/error.h"
#include "core/base/json_guard.h"
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

// Checks that the inputs are what they were, and that nobody changed what the run wrote.
void require_unchanged(const std::filesystem::path& run, const Manifest& manifest,
                       const Plan& plan) {
  for (const auto& [path, digest] : manifest.inputs) {
    const auto now = plan.inputs.find(path);
    if (now != plan.inputs.end() && now->second != digest)
      fail("{}: found SHA-256 {}…, expected {}…, that of the run; it has changed since", path,
           now->second.substr(0, 12), digest.substr(0, 12));
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
                    const RunOptions& options) {
  const auto folder = std::filesystem::absolute(run_folder / "").lexically_normal().parent_path();
  const Manifest manifest = read_manifest(folder);
  if (!manifest.finished)
    fail("{}: the run has not finished; run it to its end first", folder.string());
  const FolderLock lock(folder);
  const ScratchFolder scratch(folder);
  const Plan plan = make_plan(manifest.experiments, drivers, scratch.path());
  require_unchanged(folder, manifest, plan);
  const RunResult again = run(plan, scratch.path(), options);

  Verification verification{.cells = plan.cells.size(), .stopped = again.stopped};
  if (again.stopped) return verification;
  const auto results = folder / "results.jsonl";
  verification.difference = first_difference(read_text_file(results, kMaxResults),
                                             to_jsonl(again.rows), results.string());
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
