#include "sae/bfloat16_product.h"

#include <cmath>
#include <cstring>

#include "core/error.h"
#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define VYX_AVX512_BF16 __attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16")))
#endif

namespace vyx::sae::bfloat16 {
namespace {

constexpr int64_t pairs_of(int64_t d) {
  return (d + 1) / 2;
}

/// To the nearest, ties to even; a NaN stays one.
uint16_t rounded(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  if (value != value) return 0x7fc0;
  return uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

float widened(uint16_t value) {
  const uint32_t bits = uint32_t(value) << 16;
  float result;
  std::memcpy(&result, &bits, sizeof result);
  return result;
}

/// Rounds a row, passing each element's place to put(c, bits).
template <class Put>
RowNorms round_row(const float* row, int64_t d, Put&& put) {
  double exact = 0, kept = 0, lost = 0;
  for (int64_t c = 0; c < d; ++c) {
    const uint16_t bits = rounded(row[c]);
    const double value = widened(bits), difference = row[c] - value;
    exact += double(row[c]) * row[c];
    kept += value * value;
    lost += difference * difference;
    put(c, bits);
  }
  return {float(std::sqrt(exact)), float(std::sqrt(kept)), float(std::sqrt(lost))};
}

}  // namespace

int64_t packed_latents_size(int64_t latents, int64_t d) {
  return (latents + kPanel - 1) / kPanel * kPanel * pairs_of(d) * 2;
}

int64_t packed_tokens_size(int64_t tokens, int64_t d) {
  return (tokens + kRows - 1) / kRows * kRows * pairs_of(d) * 2;
}

void pack_panel(uint16_t* packed, RowNorms* norms, const float* encoder, int64_t latents, int64_t d, int64_t panel) {
  uint16_t* out = packed + panel * kPanel * pairs_of(d) * 2;
  std::memset(out, 0, kPanel * pairs_of(d) * 2 * sizeof *out);
  for (int64_t l = 0; l < kPanel && panel * kPanel + l < latents; ++l) {
    const int64_t latent = panel * kPanel + l;
    norms[latent] = round_row(encoder + latent * d, d,
                              [&](int64_t c, uint16_t bits) { out[(c / 2 * kPanel + l) * 2 + c % 2] = bits; });
  }
}

void pack_tokens(uint16_t* packed, RowNorms* norms, const float* x, int64_t tokens, int64_t d) {
  const int64_t width = pairs_of(d) * 2;
  std::memset(packed, 0, packed_tokens_size(tokens, d) * sizeof *packed);
  for (int64_t t = 0; t < tokens; ++t)
    norms[t] = round_row(x + t * d, d, [&](int64_t c, uint16_t bits) { packed[t * width + c] = bits; });
}

#ifdef VYX_AVX512_BF16

bool available() {
  return __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
}

VYX_AVX512_BF16 void multiply(float* z, int64_t stride, const uint16_t* packed_tokens, int64_t tokens, const uint16_t* packed_latents,
                              int64_t first, int64_t panels, int64_t d) {
  const int64_t pairs = pairs_of(d);
  for (int64_t panel = 0; panel < panels; ++panel)
    for (int64_t t = 0; t < tokens; t += kRows) {
      const uint16_t* w = packed_latents + (first + panel) * kPanel * pairs * 2;
      const uint16_t* x = packed_tokens + t * pairs * 2;
      __m512 sums[kRows][3];  // 24 registers
#pragma GCC unroll 8
      for (int64_t r = 0; r < kRows; ++r) sums[r][0] = sums[r][1] = sums[r][2] = _mm512_setzero_ps();
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
        for (int64_t v = 0; v < 3; ++v) _mm512_storeu_ps(z + (t + r) * stride + panel * kPanel + v * 16, sums[r][v]);
    }
}

#else

bool available() {
  return false;
}

void multiply(float*, int64_t, const uint16_t*, int64_t, const uint16_t*, int64_t, int64_t, int64_t) {
  fail("bfloat16 products: this machine has none");
}

#endif

}  // namespace vyx::sae::bfloat16
