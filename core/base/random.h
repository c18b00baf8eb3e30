// Randomness that is computed, not stored: every value is a function of a seed and an index. A run
// that resumes at step t needs only t.
#pragma once
#include <cstdint>

namespace vyx {

/// 64 well-mixed bits of (seed, stream, index). `stream` keeps users of one seed apart.
uint64_t random_bits(uint64_t seed, uint64_t stream, uint64_t index);

/// A seeded bijection of 0 … size − 1 in constant memory: a Feistel network on the next power of
/// two, walked until it lands inside.
class Permutation {
 public:
  Permutation(uint64_t size, uint64_t seed);  // throws Error for size 0
  uint64_t operator()(uint64_t index) const;  // index < size
  uint64_t size() const { return size_; }

 private:
  uint64_t size_, seed_;
  int half_bits_;
};

}  // namespace vyx
