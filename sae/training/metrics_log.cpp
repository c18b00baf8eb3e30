#include "sae/training/metrics_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

#include "core/base/error.h"
#include "core/io/files.h"

namespace vyx::sae {
namespace {

constexpr uint64_t kMaxBytes = 1u << 30;

// The length of `text` up to and with its last line that is whole and of a step ≤ `step`; `visit`
// gets those lines.
template <class Visit>
size_t whole_lines(std::string_view text, const std::string& source, uint64_t step, Visit&& visit) {
  size_t kept = 0;
  for (size_t end; (end = text.find('\n', kept)) != std::string_view::npos; kept = end + 1) {
    Json line;
    try {
      line = parse_json(text.substr(kept, end - kept), source);
      if (static_cast<uint64_t>(json_integer(line, "step", source, 0, INT64_MAX)) > step) break;
    } catch (const Error&) {
      break;
    }
    visit(std::move(line));
  }
  return kept;
}

}  // namespace

MetricsLog::MetricsLog(std::filesystem::path path, uint64_t step) : path_(std::move(path)) {
  const std::string text =
      std::filesystem::exists(path_) ? read_text_file(path_, kMaxBytes) : std::string();
  const size_t kept = whole_lines(text, path_.string(), step, [](Json&&) {});
  if (kept < text.size() || text.empty()) write_file(path_, std::string_view(text).substr(0, kept));
  fd_ = ::open(path_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  if (fd_ < 0) fail("{}: cannot open ({})", path_.string(), std::strerror(errno));
}

MetricsLog::~MetricsLog() {
  ::close(fd_);
}

void MetricsLog::append(const Json& line) {
  const std::string text = line.dump() + "\n";
  for (size_t done = 0; done < text.size();) {
    const ssize_t count = ::write(fd_, text.data() + done, text.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0)
      fail("{}: cannot append ({}); free some space and --resume", path_.string(),
           std::strerror(errno));
    done += static_cast<size_t>(count);
  }
}

void MetricsLog::sync() {
  if (::fsync(fd_) != 0) fail("{}: cannot sync ({})", path_.string(), std::strerror(errno));
}

std::vector<Json> read_metrics(const std::filesystem::path& path) {
  std::vector<Json> lines;
  whole_lines(read_text_file(path, kMaxBytes), path.string(), UINT64_MAX,
              [&](Json&& line) { lines.push_back(std::move(line)); });
  return lines;
}

}  // namespace vyx::sae
