#include "tests/apps/compare/uniformity.h"

#include <algorithm>
#include <cmath>

#include "core/base/random.h"

namespace vyx::test {
namespace {

struct Distances {
  double above = 0, below = 0;  // of the values' distribution function and the uniform one
};

Distances distances(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const auto n = static_cast<double>(values.size());
  Distances result;
  for (size_t i = 0; i < values.size(); ++i) {
    result.above = std::max(result.above, static_cast<double>(i + 1) / n - values[i]);
    result.below = std::max(result.below, values[i] - static_cast<double>(i) / n);
  }
  return result;
}

}  // namespace

std::vector<double> spread(std::span<const double> p, std::span<const double> next_smaller,
                           uint64_t seed) {
  std::vector<double> values;
  for (size_t i = 0; i < p.size(); ++i) {
    const double share = static_cast<double>(random_bits(seed, 0, i) >> 11) * 0x1p-53;
    values.push_back(p[i] - share * (p[i] - next_smaller[i]));
  }
  return values;
}

std::vector<double> spread(std::span<const double> p, int64_t draws, uint64_t seed) {
  std::vector<double> next_smaller(p.begin(), p.end());
  for (double& value : next_smaller) value -= 1 / static_cast<double>(1 + draws);
  return spread(p, next_smaller, seed);
}

double smirnov(size_t n, double d) {
  if (d <= 0) return 1;
  const auto count = static_cast<double>(n);
  double sum = 0;
  for (size_t j = 0; static_cast<double>(j) <= count * (1 - d); ++j) {
    const auto i = static_cast<double>(j);
    const double rest = std::max(1 - d - i / count, 0.0);
    sum +=
        std::exp(std::lgamma(count + 1) - std::lgamma(i + 1) - std::lgamma(count - i + 1) +
                 (i - 1) * std::log(d + i / count) + (j == n ? 0 : (count - i) * std::log(rest)));
  }
  return std::min(1.0, d * sum);
}

double uniform_p(std::vector<double> values) {
  const size_t n = values.size();
  const auto [above, below] = distances(std::move(values));
  return std::min(1.0, 2 * smirnov(n, std::max(above, below)));
}

double not_too_small_p(std::vector<double> values) {
  const size_t n = values.size();
  return smirnov(n, distances(std::move(values)).above);
}

}  // namespace vyx::test
