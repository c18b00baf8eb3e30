#include "sae/store/prefetcher.h"

#include <utility>

namespace vyx::sae {

Prefetcher::Prefetcher(std::function<at::Tensor(uint64_t)> make, size_t depth)
    : make_(std::move(make)), depth_(depth), thread_([this] { work(); }) {}

Prefetcher::~Prefetcher() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

at::Tensor Prefetcher::take(uint64_t step) {
  std::unique_lock lock(mutex_);
  const uint64_t expected = made_.empty() ? next_ : made_.front().step;
  if (!started_ ||
      step != expected) {  // a jump: what was made is of no use, nor is what is being made
    made_.clear();
    next_ = step;
    started_ = true;
  }
  changed_.notify_all();
  changed_.wait(lock, [this] { return !made_.empty(); });
  Made made = std::move(made_.front());
  made_.pop_front();
  changed_.notify_all();
  if (made.error) std::rethrow_exception(made.error);
  return std::move(made.value);
}

void Prefetcher::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stopping_ || (started_ && made_.size() < depth_); });
    if (stopping_) return;
    Made made{.step = next_, .value = {}, .error = {}};
    lock.unlock();
    try {
      made.value = make_(made.step);
    } catch (...) {
      made.error = std::current_exception();
    }
    lock.lock();
    if (made.step != next_) continue;  // a jump came in between
    ++next_;
    made_.push_back(std::move(made));
    changed_.notify_all();
  }
}

}  // namespace vyx::sae
