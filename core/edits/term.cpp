#include "core/edits/term.h"

#include <ATen/ATen.h>

#include <cmath>

#include "core/base/error.h"

namespace vyx {
namespace {

/// `direction` [d] with norm 1, in float64.
at::Tensor unit(const at::Tensor& direction) {
  if (!direction.defined()) fail("edit: the direction is undefined");
  const at::Tensor wide = direction.detach().to(at::kDouble);
  const double norm = wide.norm().item<double>();
  if (!(norm > 0) || !std::isfinite(norm))
    fail("edit: found a direction of norm {}, expected one that is not zero", norm);
  return wide / norm;
}

}  // namespace

Term Term::add(const at::Tensor& vector) {
  return {.reader = {}, .gate = {.constant = 1}, .writer = vector};
}

Term Term::ablate(const at::Tensor& direction) {
  const at::Tensor v = unit(direction);  // [d]
  return {.reader = v, .gate = {.linear = -1}, .writer = v};
}

Term Term::clamp(const at::Tensor& direction, double value) {
  const at::Tensor v = unit(direction);  // [d]
  return {.reader = v, .gate = {.constant = value, .rectified = -1}, .writer = v};
}

}  // namespace vyx
