// The effect of a method at exactly a level of side effect, and how sure that level is. Doses are
// found on few tokens' tail, and an effect grows with the square root of the KL: so a method is
// measured at some doses around the level, and read at the level itself.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace vyx::compare {

/// What a method does at some doses; two at least, better three around the level.
struct DoseResponse {
  std::vector<double> doses;                // rising, positive: sizes, where a sign is applied too
  std::vector<std::vector<double>> kl;      // [doses][tokens] nats
  std::vector<std::vector<double>> shifts;  // [doses][items]
};

struct AtLevel {
  double dose = 0;
  std::vector<double> shifts;  // [items]
  bool between = true;         // false: the level is outside of what was measured, and extrapolated
};

/// Where the 95th percentile of the KL over tokens is the level: ln dose is linear in ln KL between
/// doses, each item's shift linear in ln dose. Of several crossings the lowest. An extrapolation
/// goes no further than the nearest two doses are apart. Throws Error for fewer than two doses, or
/// ones that are not positive and rising.
AtLevel at_level(const DoseResponse& response, double level);

/// How often each window of neutral text counts in a resample. The same draws serve all methods, so
/// that what windows do to two methods alike cancels in their difference.
using WindowDraws = std::vector<std::vector<int64_t>>;  // [draws][windows]
WindowDraws draw_windows(size_t windows, int64_t draws, uint64_t seed);

/// The mean shift at the level when the doses are read from each resample [draws]. `windows`
/// [tokens]: the window of each token.
std::vector<double> resampled_effects(const DoseResponse& response, double level,
                                      std::span<const size_t> windows, const WindowDraws& draws);

/// The standard error of ln(95th percentile) of KL [tokens]: its deviation over the resamples.
double log_kl_error(std::span<const double> kl, std::span<const size_t> windows,
                    const WindowDraws& draws);

/// The margin that the level's uncertainty adds to an effect, or to a difference of two effects,
/// for widened() in intervals.h: Student's t of windows − 1 times the deviation over the resamples.
/// NaN for two windows or fewer.
double level_margin(std::span<const double> resampled, size_t windows);

}  // namespace vyx::compare
