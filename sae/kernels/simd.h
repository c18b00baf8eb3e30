// How the loops of the autoencoders are vectorised while the binary stays portable.
#pragma once
#include <cstdint>

/// Compiles a function for AVX-512, for AVX2 and for any machine; the loader takes the best that
/// this one runs.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define VYX_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define VYX_CLONES
#endif

namespace vyx::sae {

/// 16 floats, at any address: the compiler makes of them what the machine has.
typedef float Floats __attribute__((vector_size(64), aligned(4), may_alias));
constexpr int64_t kLanes = 16;

inline Floats& floats_at(float* p) {
  return *reinterpret_cast<Floats*>(p);
}
inline const Floats& floats_at(const float* p) {
  return *reinterpret_cast<const Floats*>(p);
}

}  // namespace vyx::sae
