#include "apps/ablation/runner.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <set>
#include <sstream>
#include <thread>

#include "apps/ablation/process.h"
#include "core/base/error.h"
#include "core/base/stopwatch.h"
#include "core/base/text.h"
#include "core/io/digest.h"
#include "core/io/files.h"

namespace vyx::ablation {
namespace {

constexpr auto kPollInterval = std::chrono::milliseconds(5);
constexpr double kSaveInterval = 2;  // seconds: results are rebuilt from the steps anyway
constexpr uint64_t kMaxOutput = 256u << 20;

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);)
    if (!line.empty()) lines.push_back(line);
  return lines;
}

using FileTime = std::filesystem::file_time_type;

class Runner {
 public:
  Runner(const Plan& plan, std::filesystem::path folder, const RunOptions& options)
      : plan_(plan),
        folder_(std::move(folder)),
        real_folder_(std::filesystem::weakly_canonical(folder_)),
        options_(options) {}
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;
  ~Runner() {  // processes are left only after an exception
    for (const Running& running : running_) {
      ::kill(-running.process, SIGKILL);
      ::waitpid(running.process, nullptr, 0);
    }
  }

  RunResult run() {
    make_folder(folder_ / "steps");
    find_finished();
    while (!running_.empty() || (!stopping_ && !waiting_.empty())) {
      if (!stopping_ && options_.should_stop()) stop();
      start_ready();
      poll();
      if (started_) options_.on_cells(0);  // a log gets its line while long steps run
      if (changed_ && since_saved_.seconds() > kSaveInterval) save();
      if (!running_.empty()) std::this_thread::sleep_for(kPollInterval);
    }
    result_.stopped = stopping_ && result_.rows.size() < plan_.cells.size();
    save();
    return std::move(result_);
  }

 private:
  struct Running {
    pid_t process;
    const PlannedStep* step;
    Stopwatch stopwatch;
    FileTime started;
  };

  std::filesystem::path folder_of(const std::string& id) const { return folder_ / "steps" / id; }

  void find_finished() {
    for (const std::string& id : plan_.order) {
      const PlannedStep& step = plan_.steps.at(id);
      auto record = read_step(folder_of(id), step);
      // What stands on a step that runs again runs again.
      const bool stands = std::all_of(step.needs.begin(), step.needs.end(),
                                      [&](const auto& need) { return outputs_.contains(need); });
      const bool holds = record && stands && reads_the_same(*record);
      if (record && !holds) stale_.insert(id);
      if (holds) {
        ++result_.steps_found;
        succeed(id, std::move(*record));
      } else {
        waiting_.push_back(id);
      }
    }
    for (size_t i = 0; i < plan_.cells.size(); ++i) open_cells_.push_back(i);
    close_cells();
    started_ = true;
    options_.on_start(plan_.cells.size() - result_.rows.size());
  }

  // Whether the files that a step's inputs refer to are still those that it read.
  bool reads_the_same(const StepRecord& record) {
    return std::all_of(record.inputs.begin(), record.inputs.end(), [&](const auto& input) {
      std::error_code unknown;
      return std::filesystem::is_regular_file(input.first, unknown) &&
             digest(input.first) == input.second;
    });
  }

  const std::string& digest(const std::string& path) {
    auto& [written, sha] = digests_[path];
    const FileTime now = std::filesystem::last_write_time(path);
    if (sha.empty() || written != now) {
      sha = sha256_file(path);
      written = now;
    }
    return sha;
  }

  // Whether the step's identity says already what the file holds: an input, or of another step.
  bool is_identified(const std::filesystem::path& file) const {
    for (std::filesystem::path path = file; path.has_relative_path(); path = path.parent_path())
      if (path == folder_ || path == real_folder_ || plan_.inputs.contains(path.string()))
        return true;
    return false;
  }

  // Throws Error for a file that changed while the step ran: nobody knows which one it read.
  std::map<std::string, std::string> inputs_of(const Json& output, FileTime started) {
    std::map<std::string, std::string> inputs;
    for (const Json& name : output.value("files_read", Json::array())) {
      const auto path = name.get<std::string>();
      if (is_identified(path)) continue;
      if (std::filesystem::last_write_time(path) > started)
        fail("{}: it changed while a step read it; run again", path);
      inputs[path] = digest(path);
    }
    return inputs;
  }

  void succeed(const std::string& id, StepRecord record) {
    outputs_[id] = record.output;
    result_.records.emplace(id, std::move(record));
  }

  // Messages do not name this run's folder, so that they are the same wherever it lies.
  std::string without_folder(std::string text) const {
    const std::string prefix = folder_.string() + "/";
    for (size_t at = text.find(prefix); at != std::string::npos; at = text.find(prefix, at))
      text.erase(at, prefix.size());
    return text;
  }

  void start_ready() {
    for (auto id = waiting_.begin(); id != waiting_.end() && !stopping_ &&
                                     running_.size() < static_cast<size_t>(options_.jobs);) {
      const PlannedStep& step = plan_.steps.at(*id);
      const auto failed = std::find_if(step.needs.begin(), step.needs.end(),
                                       [&](const auto& need) { return errors_.contains(need); });
      const bool ready = std::all_of(step.needs.begin(), step.needs.end(),
                                     [&](const auto& need) { return outputs_.contains(need); });
      if (failed != step.needs.end()) {
        errors_[*id] = errors_.at(*failed);
        settled_ = true;
      } else if (ready) {
        start(step);
      } else {
        ++id;
        continue;
      }
      id = waiting_.erase(id);
    }
    if (settled_) close_cells();
  }

  void start(const PlannedStep& step) {
    const auto folder = folder_of(step.id);
    std::error_code error;
    std::filesystem::remove(folder / "step.json", error);
    if (!step.resumes || stale_.contains(step.id)) std::filesystem::remove_all(folder, error);
    if (error)
      fail("{}: cannot remove what an interrupted step left ({})", folder.string(),
           error.message());
    make_folder(folder / "files");
    std::vector<std::string> arguments = step.arguments;
    arguments.push_back("--json");
    const pid_t process = start_process({.program = step.driver->path,
                                         .arguments = std::move(arguments),
                                         .folder = folder / "files",
                                         .output = folder / "output.json",
                                         .errors = folder / "errors.txt"});
    running_.push_back({process, &step, Stopwatch(), FileTime::clock::now()});
    ++result_.steps_run;
  }

  void poll() {
    for (size_t i = 0; i < running_.size();) {
      const auto exit = poll_process(running_[i].process);
      if (!exit) {
        ++i;
        continue;
      }
      const Running ended = running_[i];
      running_.erase(running_.begin() + static_cast<std::ptrdiff_t>(i));
      finish(ended, *exit);
    }
    if (settled_) close_cells();
  }

  void finish(const Running& ended, const Exit& exit) {
    const PlannedStep& step = *ended.step;
    const auto folder = folder_of(step.id);
    const auto lines = lines_of(without_folder(read_text_file(folder / "errors.txt", kMaxOutput)));
    if (exit.code != 0 && stopping_) return;  // as it was asked to
    settled_ = true;
    if (exit.signal != 0) {
      errors_[step.id] = fmt::format("{}: ended by signal {} ({})", step.driver->name, exit.signal,
                                     ::strsignal(exit.signal));
    } else if (exit.code != 0) {
      errors_[step.id] = lines.empty()
                             ? fmt::format("{}: failed with code {}", step.driver->name, exit.code)
                             : lines.back();
    } else {
      record(ended, folder, lines);
    }
  }

  void record(const Running& ended, const std::filesystem::path& folder,
              const std::vector<std::string>& lines) {
    const PlannedStep& step = *ended.step;
    StepRecord record{.identity = Json(step.identity),
                      .driver_sha256 = step.driver->sha256,
                      .warnings = lines,
                      .seconds = ended.stopwatch.seconds()};
    try {
      record.output = parse_json(read_text_file(folder / "output.json", kMaxOutput),
                                 step.driver->name + " --json");
      record.inputs = inputs_of(record.output, ended.started);
      record.output.erase("files_read");
    } catch (const std::exception& error) {  // of the file system too
      errors_[step.id] = error.what();
      return;
    }
    record.files = digest_files(folder / "files");
    write_step(folder, record);
    std::error_code ignored;  // it is in step.json
    std::filesystem::remove(folder / "output.json", ignored);
    succeed(step.id, std::move(record));
  }

  // Rows of the cells whose steps have all ended.
  void close_cells() {
    settled_ = false;
    const size_t before = open_cells_.size();
    std::erase_if(open_cells_, [&](size_t i) {
      const Cell& cell = plan_.cells[i];
      const auto ended = [&](const std::string& id) {
        return outputs_.contains(id) || errors_.contains(id);
      };
      if (!std::all_of(cell.steps.begin(), cell.steps.end(), ended)) return false;
      const auto failed = std::find_if(cell.steps.begin(), cell.steps.end(),
                                       [&](const auto& id) { return errors_.contains(id); });
      Row row = failed == cell.steps.end()
                    ? row_of(plan_, i, outputs_)
                    : Row{.cell = i, .variant = cell.variant, .key = cell.key};
      if (failed != cell.steps.end()) row.error = errors_.at(*failed);
      for (auto& [name, value] : row.results)
        if (value.is_string()) value = without_folder(value.get<std::string>());
      result_.rows.push_back(std::move(row));
      return true;
    });
    if (before == open_cells_.size()) return;
    std::sort(result_.rows.begin(), result_.rows.end(),
              [](const Row& a, const Row& b) { return a.cell < b.cell; });
    changed_ = true;
    if (started_) options_.on_cells(before - open_cells_.size());
  }

  void stop() {
    stopping_ = true;
    for (const Running& running : running_) ::kill(running.process, SIGTERM);
  }

  void save() {
    write_file(folder_ / "results.jsonl", to_jsonl(result_.rows));
    write_file(folder_ / "results.csv", to_csv(result_.rows));
    write_file(folder_ / "timings.jsonl", timings());
    changed_ = false;
    since_saved_ = Stopwatch();
  }

  std::string timings() const {
    std::string text;
    for (const std::string& id : plan_.order)
      if (const auto record = result_.records.find(id); record != result_.records.end())
        text += OrderedJson{{"step", id}, {"seconds", record->second.seconds}}.dump() + "\n";
    return text;
  }

  const Plan& plan_;
  const std::filesystem::path folder_, real_folder_;  // real: as drivers that run in it name it
  const RunOptions& options_;
  RunResult result_;
  std::vector<std::string> waiting_;  // ids, in the plan's order
  std::vector<size_t> open_cells_;
  std::vector<Running> running_;
  std::map<std::string, Json> outputs_;        // of steps that succeeded
  std::map<std::string, std::string> errors_;  // of those that did not
  std::set<std::string> stale_;                // finished, from files that have changed since
  std::map<std::string, std::pair<FileTime, std::string>> digests_;  // of files outside of the run
  Stopwatch since_saved_;
  bool started_ = false, stopping_ = false;
  bool settled_ = false;  // steps ended since cells were closed
  bool changed_ = false;  // rows came since they were saved
};

}  // namespace

size_t RunResult::failed() const {
  return static_cast<size_t>(
      std::count_if(rows.begin(), rows.end(), [](const Row& row) { return !row.error.empty(); }));
}

RunResult run(const Plan& plan, const std::filesystem::path& folder, const RunOptions& options) {
  return Runner(plan, folder, options).run();
}

}  // namespace vyx::ablation
