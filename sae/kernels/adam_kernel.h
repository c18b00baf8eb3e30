// The inner loop of Adam, a unit of its own since it is compiled without torch's headers and with
// other flags.
#pragma once
#include <cstdint>

namespace vyx::sae {

struct AdamStep {
  float beta1, beta2, epsilon;
  float clip;           // the gradient's factor
  float rate;           // learning rate / (1 − β1^t)
  float second_factor;  // 1 / √(1 − β2^t)
};

/// One step of n weights w with gradients g and moments m, v; the gradient counts without `along`
/// times the weights.
void adam_step(float* w, const float* g, float* m, float* v, int64_t n, float along,
               const AdamStep& step);

}  // namespace vyx::sae
