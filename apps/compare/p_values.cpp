#include "apps/compare/p_values.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "apps/compare/statistics.h"
#include "core/base/error.h"

namespace vyx::compare {
namespace {

/// Standard deviations from the mean of the values; 0 where all are equal.
std::vector<double> standardised(std::vector<double> values) {
  const double center = mean(values);
  double squares = 0;
  for (const double value : values) squares += (value - center) * (value - center);
  const double deviation = std::sqrt(squares / static_cast<double>(values.size()));
  for (double& value : values) value = deviation > 0 ? (value - center) / deviation : 0;
  return values;
}

}  // namespace

double null_p(double observed, std::span<const double> null) {
  const auto below =
      std::count_if(null.begin(), null.end(), [&](double value) { return value < observed; });
  const auto all = static_cast<double>(1 + null.size());
  return (all - static_cast<double>(below)) / all;
}

double null_z(double observed, std::span<const double> null) {
  if (null.size() < 2) return std::numeric_limits<double>::quiet_NaN();
  const double center = mean(null);
  double squares = 0;
  for (const double value : null) squares += (value - center) * (value - center);
  return (observed - center) / std::sqrt(squares / static_cast<double>(null.size() - 1));
}

std::vector<double> holm(std::span<const double> p) {
  std::vector<size_t> order;
  for (size_t i = 0; i < p.size(); ++i)
    if (!std::isnan(p[i])) order.push_back(i);
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return p[a] < p[b]; });
  std::vector<double> adjusted(p.begin(), p.end());
  double largest = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    largest = std::max(largest, std::min(1.0, p[order[i]] * static_cast<double>(order.size() - i)));
    adjusted[order[i]] = largest;
  }
  return adjusted;
}

StepDown step_down(std::span<const double> observed,
                   const std::vector<std::vector<double>>& draws) {
  const size_t methods = observed.size();
  std::vector<std::vector<double>> z;  // [methods][1 + draws], the observed row first
  for (size_t m = 0; m < methods; ++m) {
    std::vector<double> column{observed[m]};
    for (const std::vector<double>& draw : draws) {
      if (draw.size() != methods)
        fail("found a draw of {} methods, expected one of {}", draw.size(), methods);
      column.push_back(draw[m]);
    }
    for (const double value : column)
      if (!std::isfinite(value)) fail("found an effect of {}, expected a number", value);
    z.push_back(standardised(std::move(column)));
  }
  std::vector<size_t> order(methods);
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return z[a][0] < z[b][0]; });

  StepDown result{.p = std::vector<double>(methods, 1.0)};
  // From the smallest on, the largest of each row over the methods so far is that of the methods
  // that are left when the steps go down.
  std::vector<double> largest(1 + draws.size(), -std::numeric_limits<double>::infinity());
  for (const size_t m : order) {
    int64_t reached = 0;
    for (size_t row = 0; row < largest.size(); ++row) {
      largest[row] = std::max(largest[row], z[m][row]);
      reached += largest[row] >= z[m][0];
    }
    result.p[m] = static_cast<double>(reached) / static_cast<double>(largest.size());
  }
  double so_far = 0;
  for (auto m = order.rbegin(); m != order.rend(); ++m)
    so_far = result.p[*m] = std::max(so_far, result.p[*m]);
  if (!order.empty()) result.global_p = result.p[order.back()];
  return result;
}

SequentialP::SequentialP(double observed, int64_t enough, int64_t most)
    : observed_(observed), enough_(enough), most_(most) {}

void SequentialP::add(double draw) {
  if (done()) fail("found a draw after the last of {}, expected none", draws_);
  ++draws_;
  reached_ += !(draw < observed_);
}

double SequentialP::p() const {
  const auto reached = static_cast<double>(reached_), draws = static_cast<double>(draws_);
  return reached_ >= enough_ ? reached / draws : (1 + reached) / (1 + draws);
}

double SequentialP::next_smaller_p() const {
  const auto reached = static_cast<double>(reached_), draws = static_cast<double>(draws_);
  return reached / (1 + draws);
}

}  // namespace vyx::compare
