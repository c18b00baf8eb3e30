#include "core/base/random.h"

#include <algorithm>
#include <bit>

#include "core/base/error.h"

namespace vyx {
namespace {

// 2⁶⁴ / golden ratio: distinct, well-spread offsets.
constexpr uint64_t kGolden = 0x9e3779b97f4a7c15;
constexpr uint64_t kRounds = 6;  // four are enough for large halves; small ones mix less per round

/// Stafford's 13th variant of MurmurHash3's finaliser, as in SplitMix64 (Steele, Lea and Flood
/// 2014): a bijection.
uint64_t mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

}  // namespace

uint64_t random_bits(uint64_t seed, uint64_t stream, uint64_t index) {
  const uint64_t key = mix(mix(seed + kGolden) ^ mix(stream + 2 * kGolden));
  return mix(key ^ mix(index + 3 * kGolden));
}

Permutation::Permutation(uint64_t size, uint64_t seed) : size_(size), seed_(seed) {
  if (size == 0) fail("a permutation of 0 rows; expected at least 1");
  half_bits_ = std::max(1, (static_cast<int>(std::bit_width(size - 1)) + 1) / 2);
}

uint64_t Permutation::operator()(uint64_t index) const {
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  do {  // at most 4 times on average: the network's domain 4^half_bits is less than 4·size (16 for
        // the smallest)
    uint64_t left = index >> half_bits_, right = index & mask;
    for (uint64_t round = 0; round < kRounds; ++round) {
      const uint64_t next = left ^ (mix(mix(seed_ + round * kGolden) ^ right) & mask);
      left = right;
      right = next;
    }
    index = left << half_bits_ | right;
  } while (index >= size_);
  return index;
}

}  // namespace vyx
