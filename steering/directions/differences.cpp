#include "steering/directions/differences.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <utility>

#include "core/base/error.h"

namespace vyx::steering {
namespace {

constexpr int64_t kHoldOutEvery = 5;  // the 5th, 10th, … pair
constexpr int64_t kFewestPairsToHoldOut = 2 * kHoldOutEvery;

// Differences below this share of the activations' size are rounding, and hold no direction.
constexpr double kActivationRounding = 1e-6;

at::Tensor wide(const at::Tensor& activations) {
  return activations.detach().to(at::kCPU, at::kDouble);
}

void check(const ContrastActivations& pairs, std::string_view where) {
  const auto& [positive, negative] = pairs;
  for (const auto& [side, name] :
       {std::pair{positive, "positive"}, std::pair{negative, "negative"}}) {
    if (side.dim() != 2) {
      fail("{}: the {} activations have {} dimensions, expected [pairs, width]", where, name,
           side.dim());
    }
    if (side.size(0) == 0 || side.size(1) == 0) {
      fail("{}: there are no {} activations; give at least one pair", where, name);
    }
    if (!at::isfinite(side).all().item<bool>()) {
      const at::Tensor bad = at::isfinite(side).all(1).logical_not();  // [pairs]
      fail(
          "{}: the {} activation of pair {} is not finite; the model overflows there, try it in "
          "float32",
          where, name, bad.nonzero()[0].item<int64_t>() + 1);
    }
  }
  if (positive.size(0) != negative.size(0)) {
    fail("{}: {} positive and {} negative activations, expected pairs", where, positive.size(0),
         negative.size(0));
  }
  if (positive.size(1) != negative.size(1)) {
    fail(
        "{}: positive activations of width {}, negative ones of width {}; both must come from one "
        "site",
        where, positive.size(1), negative.size(1));
  }
}

at::Tensor norms_of(const at::Tensor& p, const at::Tensor& n) {
  return at::cat({p.norm(2, 1), n.norm(2, 1)});  // [2 · pairs]
}

}  // namespace

ContrastActivations rows_of(const ContrastActivations& pairs, const at::Tensor& keep) {
  return {pairs.positive.index({keep}), pairs.negative.index({keep})};
}

double median_norm(const ContrastActivations& pairs) {
  return norms_of(wide(pairs.positive), wide(pairs.negative)).median().item<double>();
}

double Differences::negligible() const {
  return kActivationRounding * kActivationRounding * energy;
}

Differences differences_of(const ContrastActivations& pairs, std::string_view where) {
  const at::Tensor p = wide(pairs.positive), n = wide(pairs.negative);  // [pairs, d]
  check({p, n}, where);
  return {p - n, norms_of(p, n).square().sum().item<double>()};
}

std::optional<at::Tensor> held_out(int64_t pairs) {
  if (pairs < kFewestPairsToHoldOut) return std::nullopt;
  return at::arange(pairs).remainder(kHoldOutEvery) == kHoldOutEvery - 1;
}

}  // namespace vyx::steering
