#include "sae/sparse_kernels.h"

#include "sae/simd.h"

namespace vyx::sae {
namespace {

/// `Width` vectors of a row stay in registers while the rows go by.
template <int64_t Width>
[[gnu::always_inline]] inline void weighted_chunk(float* __restrict out, int64_t d, const float* values, const int32_t* indices,
                                                  int64_t count, const float* __restrict rows, bool add) {
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
  return ((halves[0] + halves[4]) + (halves[2] + halves[6])) + ((halves[1] + halves[5]) + (halves[3] + halves[7]));
}

}  // namespace

VYX_CLONES void weighted_sum(float* out, int64_t d, const float* values, const int32_t* indices, int64_t count, const float* rows,
                             bool add) {
  int64_t c = 0;
  for (; c + 12 * kLanes <= d; c += 12 * kLanes) weighted_chunk<12>(out + c, d, values, indices, count, rows + c, add);
  for (; c + 4 * kLanes <= d; c += 4 * kLanes) weighted_chunk<4>(out + c, d, values, indices, count, rows + c, add);
  for (; c + kLanes <= d; c += kLanes) weighted_chunk<1>(out + c, d, values, indices, count, rows + c, add);
  for (; c < d; ++c) {
    float sum = add ? out[c] : 0;
    for (int64_t e = 0; e < count; ++e) sum += values[e] * rows[indices[e] * d + c];
    out[c] = sum;
  }
}

VYX_CLONES void dots(float* out, const float* x, int64_t d, const int32_t* indices, int64_t count, const float* rows) {
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
  double total = ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
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

VYX_CLONES double residual(float* __restrict reconstruction, const float* __restrict target, int64_t d, float scale) {
  double sums[8] = {};
  int64_t c = 0;
  for (; c + 8 <= d; c += 8)
    for (int64_t i = 0; i < 8; ++i) {
      const float difference = reconstruction[c + i] - target[c + i];
      sums[i] += double(difference) * difference;
      reconstruction[c + i] = scale * difference;
    }
  double total = ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
  for (; c < d; ++c) {
    const float difference = reconstruction[c] - target[c];
    total += double(difference) * difference;
    reconstruction[c] = scale * difference;
  }
  return total;
}

VYX_CLONES int64_t filter(int32_t* found, const float* values, int64_t n, const Filter& f) {
  // Few pass: a vector of comparisons, and a look at each element only where one of them does.
  typedef int32_t Ints __attribute__((vector_size(64)));
  typedef int64_t Longs __attribute__((vector_size(64)));
  int64_t count = 0, i = 0;
  const Floats bound = f.bound - Floats{};
  for (; i + kLanes <= n; i += kLanes) {
    Floats z = floats_at(values + i) + floats_at(f.bias + i);
    if (f.margin_a) z += f.a * floats_at(f.margin_a + i) + f.b * floats_at(f.margin_b + i);
    const Ints hits = (Ints)(z > floats_at(f.lower + i)) & (Ints)(z >= bound);  // −1 or 0
    const Longs any = (Longs)hits;
    if (((any[0] | any[1]) | (any[2] | any[3]) | (any[4] | any[5]) | (any[6] | any[7])) == 0) continue;
    for (int64_t j = 0; j < kLanes; ++j) {
      found[count] = int32_t(i + j);
      count -= hits[j];
    }
  }
  for (; i < n; ++i) {
    float z = values[i] + f.bias[i];
    if (f.margin_a) z += f.a * f.margin_a[i] + f.b * f.margin_b[i];
    found[count] = int32_t(i);
    count += z > f.lower[i] && z >= f.bound;
  }
  return count;
}

}  // namespace vyx::sae
