// main() of the small programs that the parity tests talk to.
#pragma once
#include <fmt/format.h>

#include <cstdio>
#include <exception>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/base/json_guard.h"

namespace vyx::test {

using Words = std::vector<std::string>;

/// Runs the command that the first word names, on the rest, and prints its answer, JSON in one
/// line. Returns main's: 1 after an error, in words.
inline int run_command(const std::map<std::string, std::function<Json(const Words&)>>& commands,
                       int argc, char** argv) {
  try {
    const Words words(argv + 1, argv + argc);
    fmt::print("{}\n", commands.at(words.at(0))({words.begin() + 1, words.end()}).dump());
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}

}  // namespace vyx::test
