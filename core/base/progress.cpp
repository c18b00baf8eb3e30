#include "core/base/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <utility>

#include "core/base/text.h"

namespace vyx {
namespace {

using std::chrono::duration;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr auto kQuietTime = std::chrono::seconds(2);  // shorter work needs no line
constexpr auto kRedrawInterval = milliseconds(100);

std::string duration_text(double seconds) {
  const auto whole = static_cast<uint64_t>(std::llround(seconds));
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{} min {} s", whole / 60, whole % 60);
  return fmt::format("{} h {} min", whole / 3600, whole % 3600 / 60);
}

}  // namespace

std::string progress_line(std::string_view label, uint64_t done, uint64_t total,
                          std::string_view unit, double seconds) {
  std::string line = fmt::format("{}  {}", label, with_commas(done));
  if (total > 0) line += fmt::format("/{}", with_commas(total));
  line += fmt::format(" {}", unit);
  if (done == 0 || !(seconds > 0)) return line;
  const double rate = static_cast<double>(done) / seconds;
  line += fmt::format("  {} {}/s",
                      rate < 10 ? fmt::format("{:.1f}", rate)
                                : with_commas(static_cast<uint64_t>(std::llround(rate))),
                      unit);
  if (done < total)
    line += fmt::format("  {} left", duration_text(static_cast<double>(total - done) / rate));
  return line;
}

Progress::Progress(std::string label, uint64_t total, std::string unit, bool enabled,
                   milliseconds log_interval)
    : label_(std::move(label)),
      unit_(std::move(unit)),
      total_(total),
      enabled_(enabled),
      terminal_(::isatty(STDERR_FILENO) == 1),
      log_interval_(log_interval),
      start_(steady_clock::now()),
      last_drawn_(start_) {}

Progress::~Progress() {
  if (shown_) std::fputs("\r\x1b[K", stderr);
}

void Progress::advance(uint64_t units) {
  done_ += units;
  if (!enabled_) return;
  const auto now = steady_clock::now();
  if (now - last_drawn_ < (terminal_ ? kRedrawInterval : log_interval_)) return;
  if (terminal_ && now - start_ < kQuietTime) return;
  last_drawn_ = now;
  draw();
}

double Progress::seconds() const {
  return duration<double>(steady_clock::now() - start_).count();
}

void Progress::draw() {
  shown_ = terminal_;
  const std::string line = progress_line(label_, done_, total_, unit_, seconds());
  // One write, so that lines of other threads do not fall in between; \x1b[K clears what a longer
  // line left.
  std::fputs((terminal_ ? fmt::format("\r{}\x1b[K", line) : line + '\n').c_str(), stderr);
}

}  // namespace vyx
