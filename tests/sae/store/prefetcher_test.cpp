#include "sae/store/prefetcher.h"

#include <atomic>
#include <chrono>

#include "core/base/error.h"
#include "tests/torch_support.h"

using vyx::sae::Prefetcher;

namespace {

at::Tensor number(uint64_t step) {
  return at::full({1}, static_cast<int64_t>(step));
}

}  // namespace

TEST_CASE("[sae.prefetcher] steps come in order, after jumps too, and few are made ahead") {
  std::atomic<int> made = 0;
  Prefetcher prefetcher(
      [&](uint64_t step) {
        ++made;
        return number(step);
      },
      3);
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  CHECK(made == 0);  // nobody has said where to begin
  int taken = 0;
  for (const uint64_t begin : {7, 100, 3, 10}) {
    for (uint64_t step = begin; step < begin + 6; ++step, ++taken)
      CHECK(prefetcher.take(step).item<int64_t>() == static_cast<int64_t>(step));
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  CHECK(made <= taken + 4 * 4);
}

TEST_CASE("[sae.prefetcher] an error arrives with its step, and later steps go on") {
  Prefetcher prefetcher(
      [](uint64_t step) {
        if (step == 2) vyx::fail("step 2");
        return number(step);
      },
      2);
  CHECK(prefetcher.take(1).item<int64_t>() == 1);
  CHECK(vyx::test::error_of([&] { prefetcher.take(2); }) == "step 2");
  CHECK(prefetcher.take(3).item<int64_t>() == 3);
}

TEST_CASE("[sae.prefetcher] it ends while a step is being made") {
  for (int i = 0; i < 20; ++i) {
    Prefetcher prefetcher(
        [](uint64_t step) {
          std::this_thread::sleep_for(std::chrono::milliseconds(1));
          return number(step);
        },
        2);
    if (i % 2 == 0) prefetcher.take(0);
  }
}
