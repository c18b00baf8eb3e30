// Elapsed wall time.
#pragma once
#include <chrono>

namespace vyx {

class Stopwatch {
 public:
  double seconds() const { return seconds_until(Clock::now()); }
  /// Seconds since the start or the last lap, from which it counts anew.
  double lap() {
    const Clock::time_point now = Clock::now();
    const double result = seconds_until(now);
    start_ = now;
    return result;
  }

 private:
  using Clock = std::chrono::steady_clock;
  double seconds_until(Clock::time_point now) const {
    return std::chrono::duration<double>(now - start_).count();
  }

  Clock::time_point start_ = Clock::now();
};

}  // namespace vyx
