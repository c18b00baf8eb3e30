#include "steering/directions/mean_difference.h"

#include <ATen/Functions.h>

namespace vyx::steering {

Fit mean_difference(const Differences& differences) {
  const at::Tensor mean = differences.rows.mean(0);  // [d]
  const auto pairs = static_cast<double>(differences.rows.size(0));
  if (mean.square().sum().item<double>() * pairs <= differences.negligible())
    return {.degenerate =
                "the differences cancel out, their mean is zero; expected pairs that differ in the "
                "same way"};
  return {.direction = mean};
}

}  // namespace vyx::steering
