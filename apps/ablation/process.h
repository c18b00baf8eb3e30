// Child processes that end with their parent, started and awaited by one thread.
#pragma once
#include <sys/types.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace vyx::ablation {

struct ProcessOptions {
  std::filesystem::path program;
  std::vector<std::string> arguments;    // without the program
  std::filesystem::path folder;          // to run in
  std::filesystem::path output, errors;  // files that stdout and stderr go to
};

/// Starts a process in a group of its own, so that Ctrl-C on the terminal reaches only us; the
/// kernel kills it when the calling thread ends, even by kill -9. Throws Error when it cannot be
/// started.
pid_t start_process(const ProcessOptions& options);

struct Exit {
  int code = 0;    // 0: success
  int signal = 0;  // that ended it, or 0
};

/// How the process ended; nullopt while it runs.
std::optional<Exit> poll_process(pid_t process);

/// Runs a process to its end and returns its stdout. Its stderr is ours. Throws Error when it
/// fails.
std::string output_of(const std::filesystem::path& program,
                      const std::vector<std::string>& arguments);

}  // namespace vyx::ablation
