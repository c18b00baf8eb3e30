// Batches made ahead on a thread of their own, while the last one is used.
#pragma once
#include <ATen/core/Tensor.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

namespace vyx::sae {

class Prefetcher {
 public:
  /// `make(step)` runs on the other thread, one step at a time, at most `depth` steps ahead of what
  /// was taken.
  Prefetcher(std::function<at::Tensor(uint64_t step)> make, size_t depth);
  Prefetcher(const Prefetcher&) = delete;
  Prefetcher& operator=(const Prefetcher&) = delete;
  ~Prefetcher();

  /// What make(step) gives, or throws. The steps after it are made meanwhile.
  at::Tensor take(uint64_t step);

 private:
  struct Made {
    uint64_t step;
    at::Tensor value;
    std::exception_ptr error;
  };
  void work();

  std::function<at::Tensor(uint64_t)> make_;
  size_t depth_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Made> made_;
  uint64_t next_ = 0;     // the step to make
  bool started_ = false;  // a first step was asked for
  bool stopping_ = false;
  std::thread thread_;  // last: it uses the others
};

}  // namespace vyx::sae
