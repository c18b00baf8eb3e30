#include "apps/compare/dosing.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/base/error.h"

namespace vyx::compare {
namespace {

constexpr double kTiny = 1e-12;     // a KL below is rounding
constexpr double kLargestStep = 8;  // a factor of the dose, where nothing brackets the level yet
constexpr double kLoose =
    0.25;  // within this the level counts as reached when the evaluations are used up
constexpr double kFlat = 0.1;  // a log-log slope below this is no way down

double distance(double kl, double level) {
  return std::fabs(std::log(std::max(kl, kTiny) / level));
}

}  // namespace

DoseFinder::DoseFinder(std::function<double(double)> kl, DosingOptions options)
    : kl_(std::move(kl)), options_(options) {}

double DoseFinder::evaluate(double dose) {
  const double kl = kl_(dose);
  if (!std::isfinite(kl))
    fail("dose {}: found a KL of {}, expected a number; the model's output is damaged", dose, kl);
  const auto place =
      std::lower_bound(curve_.begin(), curve_.end(), dose,
                       [](const DosePoint& point, double d) { return point.dose < d; });
  curve_.insert(place, {dose, kl});
  return kl;
}

double DoseFinder::next_dose(double level) const {
  if (curve_.empty()) return options_.first;
  for (size_t i = 0; i + 1 < curve_.size(); ++i) {
    const auto& [low, kl_low] = curve_[i];
    const auto& [high, kl_high] = curve_[i + 1];
    if (kl_low >= level || kl_high < level) continue;
    // Between them; kept away from the ends, so that a bend cannot stall the search.
    const double share =
        std::log(level / std::max(kl_low, kTiny)) / std::log(kl_high / std::max(kl_low, kTiny));
    return low * std::pow(high / low, std::clamp(share, 0.1, 0.9));
  }
  const DosePoint& smallest = curve_.front();
  const DosePoint& largest = curve_.back();
  if (smallest.kl >= level) {  // downwards
    // Two flat steps: one alone may be the top of a curve that saturates.
    if (curve_.size() > 2 &&
        std::log(curve_[2].kl / smallest.kl) < kFlat * std::log(curve_[2].dose / smallest.dose))
      return 0;
    const double dose =
        smallest.dose * std::max(1 / kLargestStep, 0.95 * std::sqrt(level / smallest.kl));
    return dose < options_.smallest ? 0 : dose;
  }
  const double dose =
      largest.dose * std::min(kLargestStep, 1.05 * std::sqrt(level / std::max(largest.kl, kTiny)));
  if (largest.dose >= options_.largest) return 0;
  return std::min(dose, options_.largest);
}

Dose DoseFinder::find(double level) {
  const auto nearest = [&] {
    return *std::min_element(curve_.begin(), curve_.end(),
                             [&](const DosePoint& a, const DosePoint& b) {
                               return distance(a.kl, level) < distance(b.kl, level);
                             });
  };
  const auto near_enough = [&](double tolerance) {
    return !curve_.empty() && distance(nearest().kl, level) <= std::log1p(tolerance);
  };
  for (int i = 0; i < options_.max_evaluations && !near_enough(options_.tolerance); ++i) {
    const double dose = next_dose(level);
    if (dose == 0) break;
    evaluate(dose);
  }
  const DosePoint found = nearest();
  return {found.dose, found.kl, near_enough(kLoose)};
}

}  // namespace vyx::compare
