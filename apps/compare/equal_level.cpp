#include "apps/compare/equal_level.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "apps/compare/intervals.h"
#include "apps/compare/statistics.h"
#include "core/base/error.h"
#include "core/base/random.h"
#include "core/base/student_t.h"

namespace vyx::compare {
namespace {

constexpr uint64_t kWindowStream = 0x77696e64;  // "wind"
constexpr double kPercentile = 0.95;            // of KL over tokens
constexpr double kTinyKl = 1e-12;               // below is rounding
constexpr double kShareRounding = 1e-9;         // of a share of the way
constexpr size_t kFewWindows = 2;               // that say nothing about their deviation

void check(const DoseResponse& response) {
  const std::vector<double>& doses = response.doses;
  if (doses.size() < 2 || response.kl.size() != doses.size() ||
      response.shifts.size() != doses.size())
    fail(
        "found {} doses, {} rows of KL and {} of shifts, expected two doses or more and a row per "
        "dose",
        doses.size(), response.kl.size(), response.shifts.size());
  for (size_t i = 0; i < doses.size(); ++i)
    if (!(doses[i] > (i == 0 ? 0 : doses[i - 1])))
      fail("found a dose of {} at place {}, expected positive doses that rise", doses[i], i);
}

/// The place of a level on a curve: `share` of the way from dose i to dose i + 1, in logarithms.
struct Place {
  size_t low = 0;
  double share = 0;
  bool inside = true;  // false: the level is not between them
  double between(double at_low, double at_high) const {
    return (1 - share) * at_low + share * at_high;
  }
};

Place place_of(std::span<const double> kl, double level) {  // [doses]
  size_t low = 0;  // also where the level is below all of them
  if (kl.front() < level)
    while (low + 2 < kl.size() && !(kl[low] < level && kl[low + 1] >= level)) ++low;
  const auto log_kl = [&](size_t i) { return std::log(std::max(kl[i], kTinyKl)); };
  const double rise = log_kl(low + 1) - log_kl(low);
  // A curve that does not rise leads nowhere: its nearest end.
  if (rise <= 0) return {low, static_cast<double>(kl.front() < level), false};
  const double share = (std::log(level) - log_kl(low)) / rise;
  return {low, std::clamp(share, -1.0, 2.0), share > -kShareRounding && share < 1 + kShareRounding};
}

double mean_shift(const DoseResponse& response, const Place& place) {
  return place.between(mean(response.shifts[place.low]), mean(response.shifts[place.low + 1]));
}

/// The tokens of one dose, by KL: percentiles of resamples of their windows.
class KlTail {
 public:
  KlTail(std::span<const double> kl, std::span<const size_t> windows) : kl_(kl), windows_(windows) {
    if (kl.size() != windows.size() || kl.empty())
      fail("found the KL of {} tokens and the windows of {}, expected one window per token",
           kl.size(), windows.size());
    order_.resize(kl.size());
    std::iota(order_.begin(), order_.end(), size_t{0});
    std::sort(order_.begin(), order_.end(), [&](size_t a, size_t b) { return kl[a] > kl[b]; });
  }

  /// As quantile(), of each token as often as its window counts; NaN when none does.
  double percentile(std::span<const int64_t> counts) const {
    int64_t tokens = 0;
    for (const size_t window : windows_) tokens += counts[window];
    if (tokens == 0) return std::numeric_limits<double>::quiet_NaN();
    // From the largest down, since the tail is short.
    const double from_top = (1 - kPercentile) * static_cast<double>(tokens - 1);
    const auto above = static_cast<int64_t>(from_top);
    const double share = from_top - static_cast<double>(above);
    return (1 - share) * from_largest(above, counts) +
           share * from_largest(std::min(above + 1, tokens - 1), counts);
  }

 private:
  double from_largest(int64_t rank, std::span<const int64_t> counts) const {
    for (const size_t token : order_) {
      rank -= counts[windows_[token]];
      if (rank < 0) return kl_[token];
    }
    return kl_[order_.back()];
  }

  std::span<const double> kl_;
  std::span<const size_t> windows_;
  std::vector<size_t> order_;  // tokens, the largest KL first
};

double deviation(std::span<const double> values) {
  const double center = mean(values);
  double squares = 0;
  for (const double value : values) squares += (value - center) * (value - center);
  return std::sqrt(squares / static_cast<double>(values.size() - 1));
}

}  // namespace

AtLevel at_level(const DoseResponse& response, double level) {
  check(response);
  std::vector<double> kl;  // [doses]
  for (const std::vector<double>& tokens : response.kl) kl.push_back(quantile(tokens, kPercentile));
  const Place place = place_of(kl, level);
  AtLevel result{.between = place.inside};
  result.dose = std::exp(
      place.between(std::log(response.doses[place.low]), std::log(response.doses[place.low + 1])));
  const std::vector<double>& low = response.shifts[place.low];
  const std::vector<double>& high = response.shifts[place.low + 1];
  for (size_t i = 0; i < low.size(); ++i) result.shifts.push_back(place.between(low[i], high[i]));
  return result;
}

WindowDraws draw_windows(size_t windows, int64_t draws, uint64_t seed) {
  WindowDraws result(static_cast<size_t>(draws), std::vector<int64_t>(windows));
  uint64_t index = 0;
  for (std::vector<int64_t>& counts : result)
    for (size_t i = 0; i < windows; ++i)
      ++counts[random_bits(seed, kWindowStream, index++) % windows];
  return result;
}

std::vector<double> resampled_effects(const DoseResponse& response, double level,
                                      std::span<const size_t> windows, const WindowDraws& draws) {
  check(response);
  std::vector<KlTail> tails;
  for (const std::vector<double>& kl : response.kl) tails.emplace_back(kl, windows);
  std::vector<double> effects;
  for (const std::vector<int64_t>& counts : draws) {
    std::vector<double> kl;  // [doses]
    for (const KlTail& tail : tails) kl.push_back(tail.percentile(counts));
    effects.push_back(mean_shift(response, place_of(kl, level)));
  }
  return effects;
}

double log_kl_error(std::span<const double> kl, std::span<const size_t> windows,
                    const WindowDraws& draws) {
  const KlTail tail(kl, windows);
  std::vector<double> logs;
  for (const std::vector<int64_t>& counts : draws)
    logs.push_back(std::log(std::max(tail.percentile(counts), kTinyKl)));
  return deviation(logs);
}

double level_margin(std::span<const double> resampled, size_t windows) {
  if (windows <= kFewWindows) return std::numeric_limits<double>::quiet_NaN();
  return student_t_quantile(1 - kTail, static_cast<double>(windows - 1)) * deviation(resampled);
}

}  // namespace vyx::compare
