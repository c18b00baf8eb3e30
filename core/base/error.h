// How vyx fails: an exception that says, in one line, which file or module, what was found, what
// was expected, and the likely fix. Drivers print it and exit 1 (2 for UsageError).
#pragma once
#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace vyx {

/// Something is wrong with an input, a file or a module. what() is one line for the user.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The program was called wrongly; drivers exit with 2.
class UsageError : public Error {
 public:
  using Error::Error;
};

/// Throws Error with a formatted message:
///
///     fail("{}: found version {}, expected 2 or 3", path, version);
template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace vyx
