#include "tests/test_support.h"

#include "core/base/progress.h"

#include <pty.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <thread>

using vyx::Progress;
using vyx::progress_line;
using vyx::test::contains;

TEST_CASE("[core.progress] the line says how far, how fast and how long still") {
  CHECK(progress_line("Extracting", 1024, 4096, "tokens", 2.0) ==
        "Extracting  1,024/4,096 tokens  512 tokens/s  6 s left");
  CHECK(progress_line("Reading", 1234567, 0, "tokens", 10.0) ==
        "Reading  1,234,567 tokens  123,457 tokens/s");
  CHECK(progress_line("Writing", 3, 10, "tensors", 2.0) ==
        "Writing  3/10 tensors  1.5 tensors/s  5 s left");
  CHECK(progress_line("Slow", 1, 126, "steps", 1.0) ==
        "Slow  1/126 steps  1.0 steps/s  2 min 5 s left");
  CHECK(progress_line("Slower", 1, 2, "steps", 3780.0) ==
        "Slower  1/2 steps  0.0 steps/s  1 h 3 min left");
}

TEST_CASE(
    "[core.progress] nothing is divided by zero, and a finished or overfull count has no time "
    "left") {
  CHECK(progress_line("A", 0, 10, "steps", 5.0) == "A  0/10 steps");
  CHECK(progress_line("A", 5, 10, "steps", 0.0) == "A  5/10 steps");
  CHECK(progress_line("A", 10, 10, "steps", 1.0) == "A  10/10 steps  10 steps/s");
  CHECK(progress_line("A", 11, 10, "steps", 1.0) == "A  11/10 steps  11 steps/s");
  CHECK(progress_line("A", 999, 1000, "steps", 0.5) ==
        "A  999/1,000 steps  1,998 steps/s  0 s left");
}

namespace {

/// What `work` writes to stderr, read from `read_end` once `write_end` stands for stderr no more.
template <typename Work>
std::string written_to(int read_end, int write_end, Work work) {
  std::fflush(stderr);
  const int saved = ::dup(STDERR_FILENO);
  ::dup2(write_end, STDERR_FILENO);
  work();
  std::fflush(stderr);
  ::dup2(saved, STDERR_FILENO);
  ::close(saved);
  ::close(write_end);

  std::string text;
  char part[256];
  for (ssize_t count = 0; (count = ::read(read_end, part, sizeof(part))) > 0;)
    text.append(part, static_cast<size_t>(count));
  ::close(read_end);
  return text;
}

}  // namespace

TEST_CASE("[core.progress] a terminal sees it after two seconds, ten times a second") {
  int terminal = -1, side = -1;
  if (::openpty(&terminal, &side, nullptr, nullptr, nullptr) != 0) {
    MESSAGE("skipped: there is no pseudo-terminal here");
    return;
  }
  double seconds = 0;
  const std::string text = written_to(terminal, side, [&] {
    Progress shown("Shown", 0, "steps"), quiet("Quiet", 0, "steps", /*enabled=*/false);
    for (int after = 0; after < 50; after += static_cast<int>(shown.seconds() > 2)) {
      for (Progress* progress : {&shown, &quiet}) progress->advance(1);
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    seconds = shown.seconds();
    CHECK(shown.done() >= 50);
    CHECK(quiet.done() == shown.done());
  });

  const auto lines = std::count(text.begin(), text.end(), '\r');
  CHECK(text.starts_with("\rShown  "));
  CHECK(text.ends_with("\r\x1b[K"));  // cleared at the end
  CHECK(lines >= 2);
  CHECK(static_cast<double>(lines) <= 2 + (seconds - 2) * 10);
  CHECK_FALSE(contains(text, "Quiet"));
}

TEST_CASE(
    "[core.progress] a log gets a line per interval, a minute by default, and none with --quiet") {
  using std::chrono::milliseconds;
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const std::string text = written_to(ends[0], ends[1], [] {
    Progress logged("Logged", 1000, "steps", true, milliseconds(50));
    Progress minutely("Minutely", 1000, "steps");
    Progress quiet("Quiet", 1000, "steps", false, milliseconds(50));
    for (int after = 0; after < 5; after += static_cast<int>(logged.seconds() > 0.2)) {
      for (Progress* progress : {&logged, &minutely, &quiet}) progress->advance(1);
      std::this_thread::sleep_for(milliseconds(5));
    }
  });

  const auto lines = std::count(text.begin(), text.end(), '\n');
  CHECK(text.starts_with("Logged  "));
  CHECK(text.ends_with(" left\n"));  // nothing is cleared or drawn over
  CHECK(contains(text, "/1,000 steps  "));
  CHECK_FALSE(contains(text, "\r"));
  CHECK(lines >= 1);
  CHECK(lines <= 5);
  CHECK_FALSE(contains(text, "Minutely"));
  CHECK_FALSE(contains(text, "Quiet"));
}
