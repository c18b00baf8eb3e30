#include "sae/kernels/adam_kernel.h"

#include <cmath>

#include "sae/kernels/simd.h"

namespace vyx::sae {

VYX_CLONES void adam_step(float* __restrict w, const float* __restrict g, float* __restrict m,
                          float* __restrict v, int64_t n, float along, const AdamStep& step) {
  const auto [beta1, beta2, epsilon, clip, rate, second_factor] = step;
  for (int64_t i = 0; i < n; ++i) {
    const float gradient = clip * (g[i] - along * w[i]);
    m[i] = beta1 * m[i] + (1 - beta1) * gradient;
    v[i] = beta2 * v[i] + (1 - beta2) * gradient * gradient;
    w[i] -= rate * m[i] / (std::sqrt(v[i]) * second_factor + epsilon);
  }
}

}  // namespace vyx::sae
