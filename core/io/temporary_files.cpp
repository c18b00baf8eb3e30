#include "core/io/temporary_files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <random>
#include <string>
#include <string_view>
#include <system_error>

namespace vyx {
namespace {

constexpr std::string_view kPrefix = ".tmp-";

// Fixed places, since a signal handler may neither allocate nor lock. A program has a few files
// open at a time; one beyond the last place would only be left behind by a signal.
std::array<std::atomic<char*>, 256> remembered;
std::mutex changing;           // of threads; the handler only takes out what is there
std::atomic<pid_t> owner = 0;  // a forked child must not remove its parent's

// The process in ".tmp-PID-RANDOM"; 0 for another name.
pid_t process_of(std::string_view name) {
  pid_t process = 0;
  if (!name.starts_with(kPrefix)) return 0;
  name.remove_prefix(kPrefix.size());
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), process);
  const bool good =
      error == std::errc() && process > 0 && end != name.data() + name.size() && *end == '-';
  return good ? process : 0;
}

bool is_locked(const std::filesystem::path& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (fd < 0) return true;  // not ours to remove
  const bool locked = ::flock(fd, LOCK_EX | LOCK_NB) != 0;
  ::close(fd);
  return locked;
}

}  // namespace

std::filesystem::path temporary_name(const std::filesystem::path& folder) {
  std::random_device random;
  return folder / fmt::format("{}{}-{:08x}", kPrefix, ::getpid(), random());
}

void remember_temporary(const std::filesystem::path& path) {
  const std::lock_guard lock(changing);
  if (owner != ::getpid())  // a fork's copies are its parent's files
    for (std::atomic<char*>& place : remembered) place = nullptr;
  owner = ::getpid();
  // NOLINTNEXTLINE(cppcoreguidelines-no-malloc): the handler may have to keep it
  char* text = ::strdup(path.c_str());
  for (std::atomic<char*>& place : remembered) {
    char* empty = nullptr;
    if (place.compare_exchange_strong(empty, text)) return;
  }
  std::free(text);  // NOLINT(cppcoreguidelines-no-malloc)
}

void forget_temporary(const std::filesystem::path& path) noexcept {
  const std::lock_guard lock(changing);
  for (std::atomic<char*>& place : remembered) {
    char* text = place.load();
    if (text == nullptr || path != text) continue;
    // Otherwise the handler has it, and the process ends.
    if (place.compare_exchange_strong(text, nullptr))
      std::free(text);  // NOLINT(cppcoreguidelines-no-malloc)
    return;
  }
}

void remove_temporaries() noexcept {
  if (owner.load() != ::getpid()) return;
  for (std::atomic<char*>& place : remembered)
    if (const char* text = place.exchange(nullptr); text != nullptr) ::unlink(text);
}

std::vector<Leftover> remove_leftovers(const std::filesystem::path& folder) {
  std::vector<Leftover> removed;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    const pid_t process = process_of(entry->path().filename().string());
    struct stat status = {};
    if (process == 0 || ::lstat(entry->path().c_str(), &status) != 0 || !S_ISREG(status.st_mode))
      continue;
    const bool dead = ::kill(process, 0) != 0 && errno == ESRCH;
    if (dead && !is_locked(entry->path()) && ::unlink(entry->path().c_str()) == 0)
      removed.push_back({entry->path(), static_cast<uint64_t>(status.st_size)});
  }
  return removed;
}

}  // namespace vyx
