#include "steering/effects/sweep.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "core/base/error.h"

namespace vyx::steering {
namespace {

/// 0 and both signs of every coefficient, in order.
std::set<double> grid(const std::vector<double>& coefficients) {
  if (coefficients.empty()) throw UsageError("the sweep has no coefficients; give at least one");
  std::set<double> values = {0};
  for (const double coefficient : coefficients) {
    if (!std::isfinite(coefficient) || coefficient <= 0) {
      throw UsageError(fmt::format(
          "coefficient {} in a sweep; expected numbers above 0, as both signs are tried",
          coefficient));
    }
    values.insert({-coefficient, coefficient});
  }
  return values;
}

}  // namespace

std::optional<double> choose_coefficient(std::span<const SweepRow> rows, double max_kl) {
  for (size_t i = 0; i < rows.size() / 2; ++i) {
    const SweepRow &down = rows[i], &up = rows[rows.size() - 1 - i];
    const bool mild = down.effect.kl_mean <= max_kl && up.effect.kl_mean <= max_kl;
    if (mild && down.effect.shift < 0 && up.effect.shift > 0) return up.coefficient;
  }
  return std::nullopt;
}

Sweep sweep(const std::function<void(double)>& set, EffectMeter& meter, const SweepOptions& options,
            const std::function<void(const SweepRow&)>& on_row) {
  const std::set<double> coefficients = grid(options.coefficients);
  if (options.steer.positions == Positions::generated &&
      meter.single_token_pairs() == meter.pairs())
    fail(
        "the continuations of all {} pairs are one token long, which the model predicts from the "
        "prompt: an edit of generated tokens alone comes after it, and shifts nothing; edit all "
        "positions, or give longer continuations",
        meter.pairs());
  Sweep result;
  for (const double coefficient : coefficients) {
    set(coefficient);
    result.rows.push_back({coefficient, meter.measure()});
    if (on_row) on_row(result.rows.back());
  }
  result.chosen = choose_coefficient(result.rows, options.max_kl);
  return result;
}

Sweep sweep(models::LanguageModel& model, std::span<const WeightedVector> vectors,
            EffectMeter& meter, const SweepOptions& options,
            const std::function<void(const SweepRow&)>& on_row) {
  Steering steering = steer(model, vectors, options.steer);
  const Sweep result =
      sweep([&](double coefficient) { steering.set_scale(coefficient); }, meter, options, on_row);
  steering.require_fired();
  return result;
}

}  // namespace vyx::steering
