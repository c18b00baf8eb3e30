#include "sae/kernels/sparse_kernels.h"

#include "sae/kernels/simd.h"
#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define VYX_AVX512 __attribute__((target("avx512f")))
#endif

namespace vyx::sae {
namespace {

/// `Width` vectors of a row stay in registers while the rows go by.
template <int64_t Width>
[[gnu::always_inline]] inline void weighted_chunk(float* __restrict out, int64_t d,
                                                  const float* values, const int32_t* indices,
                                                  int64_t count, const float* __restrict rows,
                                                  bool add) {
  Floats sums[Width];
#pragma GCC unroll 16
  for (int64_t c = 0; c < Width; ++c) sums[c] = add ? floats_at(out + c * kLanes) : Floats{};
  for (int64_t e = 0; e < count; ++e) {
    const float* row = rows + indices[e] * d;
    const float value = values[e];
#pragma GCC unroll 16
    for (int64_t c = 0; c < Width; ++c) sums[c] += value * floats_at(row + c * kLanes);
  }
#pragma GCC unroll 16
  for (int64_t c = 0; c < Width; ++c) floats_at(out + c * kLanes) = sums[c];
}

[[gnu::always_inline]] inline float sum_of(const Floats& v) {
  float halves[8];
  for (int i = 0; i < 8; ++i) halves[i] = v[i] + v[i + 8];
  return ((halves[0] + halves[4]) + (halves[2] + halves[6])) +
         ((halves[1] + halves[5]) + (halves[3] + halves[7]));
}

}  // namespace

VYX_CLONES void weighted_sum(float* out, int64_t d, const float* values, const int32_t* indices,
                             int64_t count, const float* rows, bool add) {
  int64_t c = 0;
  for (; c + 12 * kLanes <= d; c += 12 * kLanes)
    weighted_chunk<12>(out + c, d, values, indices, count, rows + c, add);
  for (; c + 4 * kLanes <= d; c += 4 * kLanes)
    weighted_chunk<4>(out + c, d, values, indices, count, rows + c, add);
  for (; c + kLanes <= d; c += kLanes)
    weighted_chunk<1>(out + c, d, values, indices, count, rows + c, add);
  for (; c < d; ++c) {
    float sum = add ? out[c] : 0;
    for (int64_t e = 0; e < count; ++e) sum += values[e] * rows[indices[e] * d + c];
    out[c] = sum;
  }
}

VYX_CLONES void dots(float* out, const float* x, int64_t d, const int32_t* indices, int64_t count,
                     const float* rows) {
  for (int64_t e = 0; e < count; ++e) {
    const float* row = rows + indices[e] * d;
    Floats a{}, b{}, g{}, h{};
    int64_t c = 0;
    for (; c + 4 * kLanes <= d; c += 4 * kLanes) {
      a += floats_at(x + c) * floats_at(row + c);
      b += floats_at(x + c + kLanes) * floats_at(row + c + kLanes);
      g += floats_at(x + c + 2 * kLanes) * floats_at(row + c + 2 * kLanes);
      h += floats_at(x + c + 3 * kLanes) * floats_at(row + c + 3 * kLanes);
    }
    for (; c + kLanes <= d; c += kLanes) a += floats_at(x + c) * floats_at(row + c);
    float sum = sum_of((a + b) + (g + h));
    for (; c < d; ++c) sum += x[c] * row[c];
    out[e] = sum;
  }
}

VYX_CLONES double dot(const float* x, const float* y, int64_t d) {
  double sums[8] = {};
  int64_t c = 0;
  for (; c + 8 <= d; c += 8)
    for (int64_t i = 0; i < 8; ++i) sums[i] += double(x[c + i]) * y[c + i];
  double total =
      ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
  for (; c < d; ++c) total += double(x[c]) * y[c];
  return total;
}

VYX_CLONES double add_rows(double* sums, const float* rows, int64_t count, int64_t d) {
  double squares = 0;
  for (int64_t r = 0; r < count; ++r) {
    const float* row = rows + r * d;
    for (int64_t c = 0; c < d; ++c) sums[c] += row[c];
    squares += dot(row, row, d);
  }
  return squares;
}

VYX_CLONES double residual(float* __restrict reconstruction, const float* __restrict target,
                           int64_t d, float scale) {
  double sums[8] = {};
  int64_t c = 0;
  for (; c + 8 <= d; c += 8)
    for (int64_t i = 0; i < 8; ++i) {
      const float difference = reconstruction[c + i] - target[c + i];
      sums[i] += double(difference) * difference;
      reconstruction[c + i] = scale * difference;
    }
  double total =
      ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
  for (; c < d; ++c) {
    const float difference = reconstruction[c] - target[c];
    total += double(difference) * difference;
    reconstruction[c] = scale * difference;
  }
  return total;
}

namespace {

[[gnu::always_inline]] inline int32_t passes(const float* values, int64_t i, const Filter& f) {
  float z = values[i] + f.bias[i];
  if (f.margin_a) z += f.a * f.margin_a[i] + f.b * f.margin_b[i];
  return int32_t(z > f.lower[i]) & int32_t(z >= f.bound);
}

VYX_CLONES int64_t filter_portable(int32_t* found, const float* values, int64_t first, int64_t n,
                                   const Filter& f) {
  int64_t count = 0;
  for (int64_t i = first; i < n; i += kLanes) {
    const int64_t end = i + kLanes < n ? i + kLanes : n;
    int32_t any = 0;  // few pass: a look at each only where one does
    for (int64_t j = i; j < end; ++j) any |= passes(values, j, f);
    if (any == 0) continue;
    for (int64_t j = i; j < end; ++j) {
      found[count] = int32_t(j);
      count += passes(values, j, f);
    }
  }
  return count;
}

#ifdef VYX_AVX512

VYX_AVX512 int64_t filter_avx512(int32_t* found, const float* values, int64_t n, const Filter& f) {
  const __m512 bound = _mm512_set1_ps(f.bound), a = _mm512_set1_ps(f.a), b = _mm512_set1_ps(f.b);
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  int64_t count = 0, i = 0;
  for (; i + 16 <= n; i += 16) {
    __m512 z = _mm512_add_ps(_mm512_loadu_ps(values + i), _mm512_loadu_ps(f.bias + i));
    if (f.margin_a)
      z = _mm512_add_ps(z, _mm512_fmadd_ps(a, _mm512_loadu_ps(f.margin_a + i),
                                           _mm512_mul_ps(b, _mm512_loadu_ps(f.margin_b + i))));
    const __mmask16 above = _mm512_cmp_ps_mask(z, _mm512_loadu_ps(f.lower + i), _CMP_GT_OQ);
    const __mmask16 hits = _mm512_mask_cmp_ps_mask(above, z, bound, _CMP_GE_OQ);
    if (hits == 0) continue;
    // Whole vectors are stored, past the last hit; `found` has room for them (count ≤ i).
    _mm512_storeu_si512(
        found + count,
        _mm512_maskz_compress_epi32(hits, _mm512_add_epi32(lanes, _mm512_set1_epi32(int32_t(i)))));
    count += __builtin_popcount(hits);
  }
  return count + filter_portable(found + count, values, i, n, f);
}

#endif

}  // namespace

int64_t filter(int32_t* found, const float* values, int64_t n, const Filter& f) {
#ifdef VYX_AVX512
  if (__builtin_cpu_supports("avx512f")) return filter_avx512(found, values, n, f);
#endif
  return filter_portable(found, values, 0, n, f);
}

}  // namespace vyx::sae
