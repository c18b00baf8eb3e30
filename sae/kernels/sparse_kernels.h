// The inner loops of everything that is sparse: sums of a few rows of a matrix, and dot products
// with a few of its rows.
#pragma once
#include <cstdint>

namespace vyx::sae {

/// out[0 … d) = (add ? out : 0) + Σ_e values[e]·rows[indices[e]·d …], summed in the order of e.
/// `rows` [.., d] is row-major.
void weighted_sum(float* out, int64_t d, const float* values, const int32_t* indices, int64_t count,
                  const float* rows, bool add);

/// out[e] = x·rows[indices[e]] for e < count; x [d], rows [.., d]. The same x and row give the same
/// bits wherever they stand.
void dots(float* out, const float* x, int64_t d, const int32_t* indices, int64_t count,
          const float* rows);

/// x·y [d] in float64.
double dot(const float* x, const float* y, int64_t d);

/// sums[0 … d) += Σ of `count` rows, in float64; returns their Σ x².
double add_rows(double* sums, const float* rows, int64_t count, int64_t d);

/// gradient[i] = scale·(reconstruction[i] − target[i]), in place of the reconstruction; returns Σ
/// (reconstruction − target)².
double residual(float* reconstruction, const float* target, int64_t d, float scale);

/// Writes i to `found` [n + 16] for each i < n with z + e above both bounds, rising, and returns
/// how many:
///
///     z = values[i] + bias[i]
///     e = a·margin_a[i] + b·margin_b[i]; `margin_a` null: 0
///     found: z + e > lower[i] and z + e ≥ bound
///
struct Filter {
  const float* bias;
  const float* lower;
  float bound;
  const float* margin_a = nullptr;
  const float* margin_b = nullptr;
  float a = 0, b = 0;
};
int64_t filter(int32_t* found, const float* values, int64_t n, const Filter& f);

}  // namespace vyx::sae
