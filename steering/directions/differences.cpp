#include "steering/directions/differences.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <algorithm>
#include <map>
#include <utility>

#include "core/base/error.h"

namespace vyx::steering {
namespace {

constexpr int64_t kHoldOutEvery = 5;  // the 5th, 10th, … group
constexpr int64_t kFewestToHoldOut = 2 * kHoldOutEvery;

// Differences below this share of the activations' size are rounding, and hold no direction.
constexpr double kActivationRounding = 1e-6;

at::Tensor wide(const at::Tensor& activations) {
  return activations.detach().to(at::kCPU, at::kDouble);
}

void check(const ContrastActivations& pairs, std::string_view where) {
  const at::Tensor &positive = pairs.positive, &negative = pairs.negative;
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

/// Numbers that several pairs may have, as places from 0 in the order in which they appear.
struct Common {
  at::Tensor places;  // [pairs] int64
  int64_t count = 0;  // of places
};

Common common(const at::Tensor& numbers) {  // [pairs] int64
  const at::Tensor from = numbers.contiguous(), places = at::empty_like(from);
  std::map<int64_t, int64_t> known;
  for (int64_t i = 0; i < from.numel(); ++i)
    places.mutable_data_ptr<int64_t>()[i] =
        known.emplace(from.const_data_ptr<int64_t>()[i], static_cast<int64_t>(known.size()))
            .first->second;
  return {places, static_cast<int64_t>(known.size())};
}

std::pair<Common, Common> common_of(const ContrastActivations& pairs) {  // groups, personas
  const int64_t count = pairs.positive.size(0);
  return {common(pairs.groups.defined() ? pairs.groups : at::arange(count)),
          common(pairs.personas.defined() ? pairs.personas : at::zeros({count}, at::kLong))};
}

at::Tensor norms_of(const at::Tensor& p, const at::Tensor& n) {
  return at::cat({p.norm(2, 1), n.norm(2, 1)});  // [2 · pairs]
}

}  // namespace

ContrastActivations rows_of(const ContrastActivations& pairs, const at::Tensor& keep) {
  const auto kept = [&](const at::Tensor& rows) {
    return rows.defined() ? rows.index({keep}) : rows;
  };
  return {kept(pairs.positive), kept(pairs.negative), kept(pairs.groups), kept(pairs.personas)};
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

std::vector<HoldOut> hold_outs(const ContrastActivations& pairs) {
  const auto [groups, personas] = common_of(pairs);
  if (personas.count < 2) {
    if (groups.count < kFewestToHoldOut) return {};
    const at::Tensor judged = groups.places.remainder(kHoldOutEvery) == kHoldOutEvery - 1;
    return {{.fitted = judged.logical_not(), .judged = judged}};
  }
  // Every fifth group, or the last one; where there is one only, it says nothing of its own.
  const int64_t place = std::min(kHoldOutEvery, groups.count) - 1;
  const at::Tensor left_out = groups.places.remainder(kHoldOutEvery) == place;  // [pairs]
  std::vector<HoldOut> result;
  for (int64_t fold = 0; fold < std::min(kHoldOutEvery, personas.count); ++fold) {
    const at::Tensor others = personas.places.remainder(kHoldOutEvery) != fold;  // [pairs]
    result.push_back(groups.count < 2 ? HoldOut{others, others.logical_not()}
                                      : HoldOut{others & left_out.logical_not(),
                                                others.logical_not() & left_out});
  }
  return result;
}

at::Tensor units_of(const ContrastActivations& pairs) {
  const auto [groups, personas] = common_of(pairs);
  return personas.count < 2 ? groups.places : personas.places;
}

}  // namespace vyx::steering
