#include "sae/kernels/tiles.h"

#include <ATen/Parallel.h>

#include <chrono>
#include <mutex>
#include <set>
#include <stdexcept>
#include <thread>

#include "tests/torch_support.h"

using namespace vyx::sae;

TEST_CASE("[sae.tiles] tiles are shared among the threads, each taken once") {
  const int before = at::get_num_threads();
  at::set_num_threads(3);
  std::mutex mutex;
  std::multiset<int64_t> tiles;
  std::set<std::thread::id> threads;
  parallel_tiles(40, [&](int64_t tile) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    const std::lock_guard lock(mutex);
    tiles.insert(tile);
    threads.insert(std::this_thread::get_id());
  });
  at::set_num_threads(before);
  CHECK(tiles.size() == 40);
  CHECK(std::set<int64_t>(tiles.begin(), tiles.end()).size() == 40);
  CHECK(threads.size() == 3);
}

TEST_CASE("[sae.tiles] the last range ends with the data, and sums are in the order of tiles") {
  std::vector<int> seen(10);
  parallel_ranges(10, 4, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) ++seen[i];
  });
  CHECK(seen == std::vector<int>(10, 1));
  CHECK(parallel_sum(10, 4, [](int64_t begin, int64_t end) { return double(end - begin); }) == 10);
  CHECK(parallel_sum(0, 4, [](int64_t, int64_t) { return 1.0; }) == 0);
}

TEST_CASE("[sae.tiles] what a tile throws arrives at the caller") {
  CHECK_THROWS_AS(parallel_tiles(8,
                                 [](int64_t tile) {
                                   if (tile == 5) throw std::runtime_error("tile 5");
                                 }),
                  std::runtime_error);
}
