// The log of a run: JSON Lines, one line per interval of steps, appended as training goes on.
#pragma once
#include <cstdint>
#include <filesystem>
#include <vector>

#include "core/base/json_guard.h"

namespace vyx::sae {

class MetricsLog {
 public:
  /// Opens `path` for a run that goes on after `step`: lines of later steps, and what a killed
  /// process left of a line, are cut off, so that no step is there twice.
  MetricsLog(std::filesystem::path path, uint64_t step);
  MetricsLog(const MetricsLog&) = delete;
  MetricsLog& operator=(const MetricsLog&) = delete;
  ~MetricsLog();

  /// `line` is an object with a "step". In the file when this returns; on the disk after sync().
  void append(const Json& line);
  void sync();

 private:
  std::filesystem::path path_;
  int fd_;
};

/// The whole lines of a log, up to the first that is none.
std::vector<Json> read_metrics(const std::filesystem::path& path);

}  // namespace vyx::sae
