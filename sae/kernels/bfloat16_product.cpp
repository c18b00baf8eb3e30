#include "sae/kernels/bfloat16_product.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

#include "core/base/error.h"
#include "sae/kernels/simd.h"
#include "sae/kernels/sparse_kernels.h"
#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define VYX_AVX512_BF16 __attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16")))
#endif

namespace vyx::sae::bfloat16 {
namespace {

constexpr int64_t pairs_of(int64_t d) {
  return (d + 1) / 2;
}

/// Rounds a row to the nearest, ties to even; a NaN stays one. `widened` [d] is room for the result
/// as floats.
VYX_CLONES void round_values(uint16_t* __restrict bits, float* __restrict widened,
                             const float* __restrict row, int64_t d) {
  for (int64_t c = 0; c < d; ++c) {
    const auto value = std::bit_cast<uint32_t>(row[c]);
    const uint32_t rounded =
        row[c] == row[c] ? (value + 0x7fff + ((value >> 16) & 1)) >> 16 : 0x7fc0;
    bits[c] = uint16_t(rounded);
    widened[c] = std::bit_cast<float>(rounded << 16);
  }
}

RowNorms round_row(uint16_t* bits, std::vector<float>& widened, const float* row, int64_t d) {
  round_values(bits, widened.data(), row, d);
  const double exact = dot(row, row, d), rounded = dot(widened.data(), widened.data(), d);
  return {float(std::sqrt(exact)), float(std::sqrt(rounded)),
          float(std::sqrt(residual(widened.data(), row, d, 1)))};
}

}  // namespace

int64_t packed_latents_size(int64_t latents, int64_t d) {
  return (latents + kPanel - 1) / kPanel * kPanel * pairs_of(d) * 2;
}

int64_t packed_tokens_size(int64_t tokens, int64_t d) {
  return (tokens + kRows - 1) / kRows * kRows * pairs_of(d) * 2;
}

void pack_panel(uint16_t* packed, RowNorms* norms, const float* encoder, int64_t latents, int64_t d,
                int64_t panel) {
  const int64_t pairs = pairs_of(d);
  std::vector<uint16_t> bits(pairs * 2);  // of one row, padded
  std::vector<float> widened(d);
  uint16_t* out = packed + panel * kPanel * pairs * 2;
  for (int64_t l = 0; l < kPanel; ++l) {
    const int64_t latent = panel * kPanel + l;
    if (latent < latents)
      norms[latent] = round_row(bits.data(), widened, encoder + latent * d, d);
    else
      std::fill(bits.begin(), bits.end(), 0);
    for (int64_t pair = 0; pair < pairs; ++pair)
      std::memcpy(out + (pair * kPanel + l) * 2, bits.data() + pair * 2, 2 * sizeof *out);
  }
}

void pack_tokens(uint16_t* packed, RowNorms* norms, const float* x, int64_t tokens, int64_t d) {
  const int64_t width = pairs_of(d) * 2;
  std::memset(packed, 0, packed_tokens_size(tokens, d) * sizeof *packed);
  std::vector<float> widened(d);
  for (int64_t t = 0; t < tokens; ++t)
    norms[t] = round_row(packed + t * width, widened, x + t * d, d);
}

#ifdef VYX_AVX512_BF16

bool available() {
  return __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl");
}

VYX_AVX512_BF16 void multiply(float* z, int64_t stride, const uint16_t* packed_tokens,
                              int64_t tokens, const uint16_t* packed_latents, int64_t first,
                              int64_t panels, int64_t d) {
  const int64_t pairs = pairs_of(d);
  for (int64_t panel = 0; panel < panels; ++panel)
    for (int64_t t = 0; t < tokens; t += kRows) {
      const uint16_t* w = packed_latents + (first + panel) * kPanel * pairs * 2;
      const uint16_t* x = packed_tokens + t * pairs * 2;
      __m512 sums[kRows][3];  // 24 registers
#pragma GCC unroll 8
      for (int64_t r = 0; r < kRows; ++r)
        sums[r][0] = sums[r][1] = sums[r][2] = _mm512_setzero_ps();
      for (int64_t pair = 0; pair < pairs; ++pair, w += kPanel * 2, x += 2) {
        const auto w0 = (__m512bh)_mm512_loadu_si512(w), w1 = (__m512bh)_mm512_loadu_si512(w + 32),
                   w2 = (__m512bh)_mm512_loadu_si512(w + 64);
#pragma GCC unroll 8
        for (int64_t r = 0; r < kRows; ++r) {
          int32_t both;
          std::memcpy(&both, x + r * pairs * 2, sizeof both);
          const auto xr = (__m512bh)_mm512_set1_epi32(both);
          sums[r][0] = _mm512_dpbf16_ps(sums[r][0], xr, w0);
          sums[r][1] = _mm512_dpbf16_ps(sums[r][1], xr, w1);
          sums[r][2] = _mm512_dpbf16_ps(sums[r][2], xr, w2);
        }
      }
#pragma GCC unroll 8
      for (int64_t r = 0; r < kRows; ++r)
#pragma GCC unroll 3
        for (int64_t v = 0; v < 3; ++v)
          _mm512_storeu_ps(z + (t + r) * stride + panel * kPanel + v * 16, sums[r][v]);
    }
}

#else

bool available() {
  return false;
}

void multiply(float*, int64_t, const uint16_t*, int64_t, const uint16_t*, int64_t, int64_t,
              int64_t) {
  fail("bfloat16 products: this machine has none");
}

#endif

}  // namespace vyx::sae::bfloat16
