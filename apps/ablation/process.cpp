#include "apps/ablation/process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "core/base/error.h"
#include "core/base/text.h"

namespace vyx::ablation {
namespace {

// An open file that closes itself.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() { close(); }
  int get() const { return fd_; }
  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }

 private:
  int fd_;
};

int open_output(const std::filesystem::path& path) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd < 0) fail("{}: cannot write ({})", path.string(), std::strerror(errno));
  return fd;
}

struct Child {
  const char* program;
  char* const* arguments;
  const char* folder;
  int input, output, errors, report;  // report: errno of what failed
  pid_t parent;
};

// Runs between fork and exec: calls only what a signal handler may call.
[[noreturn]] void become(const Child& child) {
  const auto give_up = [&] {
    const int error = errno;
    const auto ignored = ::write(child.report, &error, sizeof error);
    static_cast<void>(ignored);
    ::_exit(127);
  };
  if (::setpgid(0, 0) != 0 || ::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) give_up();
  if (::getppid() != child.parent) ::_exit(127);  // it died before the kernel was told
  if (child.folder != nullptr && ::chdir(child.folder) != 0) give_up();
  if (::dup2(child.input, 0) < 0 || ::dup2(child.output, 1) < 0 || ::dup2(child.errors, 2) < 0)
    give_up();
  ::execv(child.program, child.arguments);
  give_up();
  ::_exit(127);
}

pid_t start(const std::filesystem::path& program, const std::vector<std::string>& arguments,
            const char* folder, int output, int errors) {
  std::vector<std::string> words{program.string()};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  std::array<int, 2> report{};
  if (::pipe2(report.data(), O_CLOEXEC) != 0)
    fail("{}: cannot start ({})", program.string(), std::strerror(errno));
  const Descriptor reader(report[0]);
  Descriptor writer(report[1]);
  const Descriptor input(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const Child child{words[0].c_str(), pointers.data(), folder,       input.get(),
                    output,           errors,          writer.get(), ::getpid()};
  const pid_t process = ::fork();
  if (process < 0) fail("{}: cannot start ({})", program.string(), std::strerror(errno));
  if (process == 0) become(child);
  writer.close();
  int error = 0;
  ssize_t got = 0;
  do got = ::read(reader.get(), &error, sizeof error);
  while (got < 0 && errno == EINTR);
  if (got == 0) return process;
  ::waitpid(process, nullptr, 0);
  fail("{}: cannot start ({})", program.string(), std::strerror(error));
}

Exit exit_of(int status) {
  if (WIFSIGNALED(status)) return {.code = 128 + WTERMSIG(status), .signal = WTERMSIG(status)};
  return {.code = WEXITSTATUS(status)};
}

std::string read_all(int fd) {
  std::string text;
  std::array<char, 4096> buffer{};
  for (;;) {
    const ssize_t got = ::read(fd, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return text;
    text.append(buffer.data(), static_cast<size_t>(got));
  }
}

}  // namespace

pid_t start_process(const ProcessOptions& options) {
  const Descriptor output(open_output(options.output)), errors(open_output(options.errors));
  return start(options.program, options.arguments, options.folder.c_str(), output.get(),
               errors.get());
}

std::optional<Exit> poll_process(pid_t process) {
  int status = 0;
  const pid_t ended = ::waitpid(process, &status, WNOHANG);
  if (ended == 0 || (ended < 0 && errno == EINTR)) return std::nullopt;
  if (ended < 0) fail("process {}: cannot wait for it ({})", process, std::strerror(errno));
  return exit_of(status);
}

std::string output_of(const std::filesystem::path& program,
                      const std::vector<std::string>& arguments) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0)
    fail("{}: cannot start ({})", program.string(), std::strerror(errno));
  const Descriptor reader(ends[0]);
  Descriptor writer(ends[1]);
  const pid_t process = start(program, arguments, nullptr, writer.get(), STDERR_FILENO);
  writer.close();
  std::string text = read_all(reader.get());
  int status = 0;
  while (::waitpid(process, &status, 0) < 0 && errno == EINTR) {
  }
  if (const Exit exit = exit_of(status); exit.code != 0)
    fail("{}: failed with code {}", program.string(), exit.code);
  return text;
}

}  // namespace vyx::ablation
