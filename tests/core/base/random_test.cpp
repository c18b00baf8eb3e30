#include "core/base/random.h"

#include <array>
#include <bit>
#include <cmath>
#include <set>
#include <vector>

#include "tests/test_support.h"

using vyx::Permutation;
using vyx::random_bits;

TEST_CASE("[core.random] bits depend on seed, stream and index, and look random") {
  std::set<uint64_t> seen;
  for (uint64_t seed = 0; seed < 16; ++seed)
    for (uint64_t stream = 0; stream < 16; ++stream)
      for (uint64_t index = 0; index < 16; ++index) seen.insert(random_bits(seed, stream, index));
  CHECK(seen.size() == 16 * 16 * 16);
  CHECK(random_bits(1, 2, 3) != random_bits(2, 1, 3));
  CHECK(random_bits(1, 2, 3) != random_bits(1, 3, 2));
  CHECK(random_bits(1, 2, 3) == random_bits(1, 2, 3));

  constexpr int kDraws = 20000;
  std::array<int, 64> ones{};
  double flips = 0;  // bits that change when the index, the stream or the seed moves by one
  for (uint64_t i = 0; i < kDraws; ++i) {
    const uint64_t bits = random_bits(7, 0, i);
    for (size_t bit = 0; bit < 64; ++bit) ones[bit] += static_cast<int>(bits >> bit & 1);
    flips += std::popcount(bits ^ random_bits(7, 0, i + 1)) +
             std::popcount(bits ^ random_bits(7, 1, i)) +
             std::popcount(bits ^ random_bits(8, 0, i));
  }
  for (const int count : ones) CHECK(std::abs(count - kDraws / 2) < 5 * std::sqrt(kDraws / 4.0));
  CHECK(flips / (3 * kDraws) == doctest::Approx(32).epsilon(0.005));
}

TEST_CASE("[core.random] a permutation takes every value once, for any size") {
  for (const uint64_t seed : {uint64_t{0}, uint64_t{1}, ~uint64_t{0}}) {
    for (const uint64_t size :
         {1, 2, 3, 4, 5, 15, 16, 17, 63, 64, 65, 1000, 4096, 4097, 65535, 100003}) {
      const Permutation permutation(size, seed);
      std::vector<bool> taken(size);
      for (uint64_t i = 0; i < size; ++i) {
        const uint64_t value = permutation(i);
        REQUIRE(value < size);
        REQUIRE(!taken[value]);
        taken[value] = true;
      }
    }
  }
}

TEST_CASE("[core.random] a permutation of a huge range stays inside and repeats nothing nearby") {
  const uint64_t size = (uint64_t{1} << 63) + 12345;
  const Permutation permutation(size, 3);
  std::set<uint64_t> values;
  for (uint64_t i = 0; i < 10000; ++i) {
    const uint64_t value = permutation(size - 1 - i);
    CHECK(value < size);
    values.insert(value);
  }
  CHECK(values.size() == 10000);
}

TEST_CASE("[core.random] seeds give different permutations, and each place is as likely") {
  constexpr uint64_t kSize = 10, kSeeds = 20000;
  std::array<std::array<int, kSize>, kSize> counts{};  // [index][value]
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    const Permutation permutation(kSize, seed);
    for (uint64_t i = 0; i < kSize; ++i) ++counts[i][permutation(i)];
  }
  const double expected = static_cast<double>(kSeeds) / kSize;
  for (const auto& row : counts)
    for (const int count : row) CHECK(std::abs(count - expected) < 5 * std::sqrt(expected));

  const Permutation one(5000, 1), other(5000, 2);
  int same = 0, fixed = 0, neighbours = 0;
  for (uint64_t i = 0; i + 1 < 5000; ++i) {
    same += one(i) == other(i);
    fixed += one(i) == i;
    neighbours += one(i + 1) == one(i) + 1;
  }
  CHECK(same < 10);
  CHECK(fixed < 10);
  CHECK(neighbours < 10);
}

TEST_CASE("[core.random] a permutation of nothing is refused") {
  CHECK(vyx::test::contains(vyx::test::error_of([] { Permutation(0, 1); }), "permutation of 0"));
}
