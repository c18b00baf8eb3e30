// Work cut into fixed tiles. A tile is computed by one thread and touches nothing of another's, so
// that the number of threads and who takes which tile change no bit of the result.
#pragma once
#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <vector>

#ifndef _OPENMP
#error "at::parallel_for is a plain loop in units that are compiled without OpenMP"
#endif

namespace vyx::sae {

constexpr int64_t tiles_of(int64_t size, int64_t tile) {
  return (size + tile - 1) / tile;
}

/// Calls work(tile) for 0 … count − 1, each taken by the thread that is free first. Operators of
/// torch inside run on one thread.
template <class Work>
void parallel_tiles(int64_t count, Work&& work) {
  std::atomic<int64_t> next = 0;
  at::parallel_for(0, at::get_num_threads(), 1,
                   [&](int64_t, int64_t) {  // one tile too: its operators are to run on one thread
                     for (int64_t tile;
                          (tile = next.fetch_add(1, std::memory_order_relaxed)) < count;)
                       work(tile);
                   });
}

/// Calls work(begin, end) for the tiles of 0 … size − 1.
template <class Work>
void parallel_ranges(int64_t size, int64_t tile, Work&& work) {
  parallel_tiles(tiles_of(size, tile),
                 [&](int64_t index) { work(index * tile, std::min(size, (index + 1) * tile)); });
}

/// Σ of work(begin, end) over the tiles, in their order.
template <class Work>
double parallel_sum(int64_t size, int64_t tile, Work&& work) {
  std::vector<double> sums(tiles_of(size, tile));
  parallel_ranges(size, tile,
                  [&](int64_t begin, int64_t end) { sums[begin / tile] = work(begin, end); });
  double total = 0;
  for (const double sum : sums) total += sum;
  return total;
}

}  // namespace vyx::sae
