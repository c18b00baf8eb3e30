#include "core/io/files_read.h"

#include <algorithm>
#include <iterator>
#include <mutex>
#include <set>

namespace vyx {
namespace {

struct Notes {
  std::mutex mutex;
  std::set<std::string> read, written;
};

Notes& notes() {
  static Notes* all = new Notes;  // outlives every thread that reads
  return *all;
}

std::string name_of(const std::filesystem::path& path) {
  std::error_code unknown;
  return std::filesystem::absolute(path, unknown).lexically_normal().string();
}

}  // namespace

std::vector<std::string> files_read() {
  const std::lock_guard lock(notes().mutex);
  std::vector<std::string> files;
  std::set_difference(notes().read.begin(), notes().read.end(), notes().written.begin(),
                      notes().written.end(), std::back_inserter(files));
  return files;
}

void note_read(const std::filesystem::path& path) {
  const std::string name = name_of(path);
  if (name.starts_with("/proc/") || name.starts_with("/sys/")) return;
  const std::lock_guard lock(notes().mutex);
  notes().read.insert(name);
}

void note_written(const std::filesystem::path& path) {
  const std::string name = name_of(path);
  const std::lock_guard lock(notes().mutex);
  notes().written.insert(name);
}

}  // namespace vyx
