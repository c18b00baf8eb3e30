#include "apps/compare/equal_level.h"

#include <cmath>
#include <random>

#include "apps/compare/intervals.h"
#include "apps/compare/statistics.h"
#include "tests/test_support.h"

using namespace vyx::compare;
using doctest::Approx;
using vyx::test::contains;
using vyx::test::error_of;

namespace {

constexpr size_t kWindows = 12, kTokensPerWindow = 40;

std::vector<size_t> windows_of_tokens() {
  std::vector<size_t> windows;
  for (size_t token = 0; token < kWindows * kTokensPerWindow; ++token)
    windows.push_back(token / kTokensPerWindow);
  return windows;
}

/// KL ∝ dose², as of a small vector: each token has its own factor, windows share a part of it. The
/// shift of item i is (1 + i)·dose^gamma.
DoseResponse planted(double gamma, uint64_t seed = 1) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  std::vector<double> factors;
  for (size_t window = 0; window < kWindows; ++window) {
    const double shared = .3 * normal(random);
    for (size_t i = 0; i < kTokensPerWindow; ++i)
      factors.push_back(std::exp(shared + normal(random)));
  }
  DoseResponse response{.doses = {.8, 1, 1.25}};
  for (const double dose : response.doses) {
    std::vector<double>& kl = response.kl.emplace_back(factors);
    for (double& token : kl) token *= dose * dose;
    std::vector<double>& shifts = response.shifts.emplace_back();
    for (int i = 0; i < 3; ++i) shifts.push_back((1 + i) * std::pow(dose, gamma));
  }
  return response;
}

double p95(const DoseResponse& response, size_t dose) {
  return quantile(response.kl[dose], .95);
}

}  // namespace

TEST_CASE("[compare.equal_level] between doses the effect is read at the level itself") {
  const DoseResponse response = planted(.9);
  // KL is a line of slope 2 in logarithms: the dose of any level is known.
  for (const double dose : {.8, .9, 1., 1.1, 1.25}) {
    CAPTURE(dose);
    const AtLevel at = at_level(response, p95(response, 1) * dose * dose);
    CHECK(at.dose == Approx(dose).epsilon(1e-9));
    CHECK(at.between);
    CHECK(at.shifts[0] == Approx(std::pow(dose, .9)).epsilon(.003));  // linear in ln dose
    CHECK(at.shifts[2] == Approx(3 * at.shifts[0]));
  }
  // At a dose that was measured it is what was measured.
  CHECK(at_level(response, p95(response, 1)).shifts == response.shifts[1]);
}

TEST_CASE("[compare.equal_level] outside of the doses it is extrapolated, not far, and says so") {
  const DoseResponse response = planted(.9);
  const AtLevel below = at_level(response, p95(response, 1) * .7 * .7);
  CHECK_FALSE(below.between);
  CHECK(below.dose == Approx(.7));
  CHECK_FALSE(at_level(response, p95(response, 1) * 1.3 * 1.3).between);
  CHECK(at_level(response, 1e6).dose == Approx(1.25 * 1.25));
  CHECK(at_level(response, 1e-9).dose == Approx(.8 * .8));
  // A curve that saturates leads nowhere.
  DoseResponse flat = response;
  flat.kl[2] = flat.kl[1];
  CHECK(at_level(flat, 1e6).dose == Approx(1.25));
  CHECK_FALSE(at_level(flat, 1e6).between);
}

TEST_CASE("[compare.equal_level] of several crossings the lowest counts") {
  const DoseResponse wave{
      .doses = {1, 2, 3, 4}, .kl = {{.1}, {.4}, {.2}, {.8}}, .shifts = {{1}, {2}, {3}, {4}}};
  CHECK(at_level(wave, .2).dose == Approx(std::sqrt(2)));
  CHECK(at_level(wave, .3).shifts[0] < 2);
  CHECK(at_level(wave, .5).dose > 3);
}

TEST_CASE("[compare.equal_level] doses that make no curve are refused") {
  CHECK(contains(error_of([] { at_level({{1}, {{.1}}, {{1}}}, .1); }), "1 doses"));
  CHECK(contains(error_of([] {
                   at_level({{1, 1}, {{.1}, {.2}}, {{1}, {1}}}, .1);
                 }),
                 "a dose of 1 at place 1"));
  CHECK(contains(error_of([] {
                   at_level({{-2, 1}, {{.1}, {.2}}, {{1}, {1}}}, .1);
                 }),
                 "a dose of -2 at place 0"));
  CHECK(contains(error_of([] { at_level({{1, 2}, {{.1}}, {{1}, {1}}}, .1); }), "1 rows of KL"));
  const std::vector<size_t> one_window = {0};
  CHECK(contains(error_of([&] {
                   log_kl_error(std::vector<double>{.1, .2}, one_window, {{1}});
                 }),
                 "2 tokens and the windows of 1"));
}

TEST_CASE("[compare.equal_level] each window once is what was measured") {
  const DoseResponse response = planted(.9);
  const std::vector<size_t> windows = windows_of_tokens();
  const WindowDraws once = {std::vector<int64_t>(kWindows, 1)},
                    twice_first = {{2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}};
  const double level = .9 * p95(response, 1);
  CHECK(resampled_effects(response, level, windows, once)[0] ==
        Approx(mean(at_level(response, level).shifts)));
  // The first window twice is a text of its own tokens, each twice.
  DoseResponse first = response;
  for (std::vector<double>& kl : first.kl) {
    kl.resize(kTokensPerWindow);
    kl.insert(kl.end(), kl.begin(), kl.begin() + kTokensPerWindow);
  }
  CHECK(resampled_effects(response, level, windows, twice_first)[0] ==
        Approx(mean(at_level(first, level).shifts)));
}

TEST_CASE("[compare.equal_level] windows are drawn as often as there are, alike for a seed") {
  const WindowDraws draws = draw_windows(kWindows, 50, 3);
  std::vector<int64_t> counts(kWindows);
  for (const std::vector<int64_t>& draw : draws) {
    int64_t all = 0;
    for (size_t window = 0; window < kWindows; ++window) {
      all += draw[window];
      counts[window] += draw[window];
    }
    CHECK(all == kWindows);
  }
  for (const int64_t count : counts) {  // 50 expected, standard deviation 7
    CHECK(count > 20);
    CHECK(count < 80);
  }
  CHECK(draws == draw_windows(kWindows, 50, 3));
  CHECK(draws != draw_windows(kWindows, 50, 4));
}

TEST_CASE("[compare.equal_level] the error of the level is what new text would show") {
  // The deviation of ln p95 over texts, beside what resamples of each text's windows say.
  const std::vector<size_t> windows = windows_of_tokens();
  const WindowDraws draws = draw_windows(kWindows, 200, 5);
  std::vector<double> logs, errors, margins;
  for (uint64_t text = 0; text < 60; ++text) {
    const DoseResponse response = planted(.9, 100 + text);
    logs.push_back(std::log(p95(response, 1)));
    errors.push_back(log_kl_error(response.kl[1], windows, draws));
    margins.push_back(
        level_margin(resampled_effects(response, p95(response, 1), windows, draws), kWindows));
  }
  double squares = 0;
  for (const double value : logs) squares += (value - mean(logs)) * (value - mean(logs));
  const double deviation = std::sqrt(squares / 59);
  CHECK(mean(errors) == Approx(deviation).epsilon(.25));
  // Effects go as dose^.9, doses as the square root of KL; 2.20 is t of 11 degrees.
  CHECK(mean(margins) == Approx(2.20 * .45 * 2 * mean(errors)).epsilon(.1));
}

TEST_CASE("[compare.equal_level] what moves two methods alike cancels in their difference") {
  const DoseResponse a = planted(.9);
  DoseResponse b = a;
  for (std::vector<double>& shifts : b.shifts)
    for (double& shift : shifts) shift += .5;
  const std::vector<size_t> windows = windows_of_tokens();
  const WindowDraws draws = draw_windows(kWindows, 200, 5);
  const double level = p95(a, 1);
  const std::vector<double> of_a = resampled_effects(a, level, windows, draws),
                            of_b = resampled_effects(b, level, windows, draws);
  CHECK(level_margin(of_a, kWindows) > .1);
  CHECK(level_margin(difference(of_b, of_a), kWindows) < 1e-9);
  CHECK(std::isnan(level_margin(of_a, 2)));
  CHECK(std::isfinite(level_margin(of_a, 3)));
}
