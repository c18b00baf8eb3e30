// A progress line on stderr, with a rate and the time left. A terminal sees one line that changes,
// after two seconds; a log gets a line per minute.
#pragma once
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace vyx {

class Progress {
 public:
  /// `total` in `unit`s ("tokens", "tensors"); 0: unknown. `enabled` false (--quiet) shows nothing.
  /// Where stderr is no terminal, a line is written each `log_interval`.
  Progress(std::string label, uint64_t total, std::string unit, bool enabled = true,
           std::chrono::milliseconds log_interval = std::chrono::minutes(1));
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress();  // clears the line of a terminal

  void advance(uint64_t units);
  uint64_t done() const { return done_; }
  double seconds() const;

 private:
  void draw();

  std::string label_, unit_;
  uint64_t total_, done_ = 0;
  bool enabled_, terminal_, shown_ = false;
  std::chrono::milliseconds log_interval_;
  std::chrono::steady_clock::time_point start_, last_drawn_;
};

/// The text of the line, without the terminal: "Extracting  1,024/4,096 tokens  512 tokens/s  6 s
/// left".
std::string progress_line(std::string_view label, uint64_t done, uint64_t total,
                          std::string_view unit, double seconds);

}  // namespace vyx
