#include "apps/options/terminal.h"

#include <c10/util/Exception.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <torch/csrc/jit/runtime/print_handler.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <string>
#include <string_view>

#include "core/base/error.h"
#include "core/base/text.h"
#include "core/base/utf8.h"

namespace vyx::apps {
namespace {

// Otherwise the next file that is opened would take its place, and get what is printed.
void open_closed_descriptors() {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (::fcntl(fd, F_GETFD) < 0 && errno == EBADF && ::open("/dev/null", O_RDONLY) != fd)
      fail("/dev/null: cannot open it in place of descriptor {}, which is closed", fd);
}

bool write_all(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(STDOUT_FILENO, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(count));
  }
  return true;
}

// The end of what was printed last, a character that is not whole yet.
std::string& unfinished() {
  static std::string text;
  return text;
}

ssize_t write_printable(void* /*cookie*/, const char* bytes, size_t size) {
  std::string text = std::move(unfinished()) + std::string(bytes, size);
  size_t whole = text.size();  // up to a character that the next piece may complete
  for (size_t back = 1; back <= 3 && back <= text.size(); ++back)
    if (utf8_step(std::string_view(text).substr(text.size() - back)).cut_off)
      whole = text.size() - back;
  unfinished() = text.substr(whole);
  return write_all(printable(text.substr(0, whole))) ? static_cast<ssize_t>(size) : 0;
}

int finish(void* /*cookie*/) {
  return write_all(printable(unfinished())) ? 0 : EOF;
}

void show(std::string_view text) {
  while (text.ends_with('\n')) text.remove_suffix(1);
  fmt::print(stderr, "{}\n", printable(text));
}

class Warnings : public c10::WarningHandler {
 public:
  void process(const c10::Warning& warning) override { show("warning: " + warning.msg()); }
};

}  // namespace

void guard_terminal() {
  open_closed_descriptors();
  std::FILE* const guarded = ::fopencookie(
      nullptr, "w", {.read = {}, .write = write_printable, .seek = {}, .close = finish});
  if (guarded == nullptr) fail("stdout: cannot be opened");
  if (::isatty(STDOUT_FILENO) == 1) std::setvbuf(guarded, nullptr, _IOLBF, 0);
  stdout = guarded;  // glibc has it as a variable, so that a program may do this

  torch::jit::setPrintHandler([](const std::string& text) { show(text); });
  static Warnings warnings;
  c10::WarningUtils::set_warning_handler(&warnings);
}

}  // namespace vyx::apps
