#include "apps/compare/dosing.h"

#include <array>
#include <cmath>
#include <numeric>

#include "tests/test_support.h"

using namespace vyx::compare;
using doctest::Approx;

namespace {

/// KL(softmax(z + c·d) ‖ softmax(z)), and with `reverse` the other direction.
double softmax_kl(double c, bool reverse = false) {
  constexpr std::array z = {2.0, 1.0, 0.0, -1.0}, d = {-1.0, 0.0, 1.0, 2.0};
  std::array<double, 4> p{}, q{};
  double p_sum = 0, q_sum = 0, kl = 0;
  for (size_t i = 0; i < 4; ++i) {
    p_sum += p[i] = std::exp(z[i] + c * d[i]);
    q_sum += q[i] = std::exp(z[i]);
  }
  for (size_t i = 0; i < 4; ++i) {
    const double a = p[i] / p_sum, b = q[i] / q_sum;
    kl += reverse ? b * std::log(b / a) : a * std::log(a / b);
  }
  return kl;
}

}  // namespace

TEST_CASE("[compare.dosing] finds the dose of a KL, and keeps what it measured for the next") {
  CHECK(softmax_kl(.1) == Approx(.0033335).epsilon(1e-4));
  CHECK(softmax_kl(.5) == Approx(.1105628).epsilon(1e-6));
  CHECK(softmax_kl(1) == Approx(.5538954).epsilon(1e-6));
  CHECK(softmax_kl(.5, true) == Approx(.0934753).epsilon(1e-5));

  int calls = 0;
  DoseFinder finder(
      [&](double dose) {
        ++calls;
        return softmax_kl(dose);
      },
      {.first = 1, .tolerance = 1e-6, .max_evaluations = 40});
  const Dose dose = finder.find(.1);
  CHECK(dose.dose == Approx(.4786938).epsilon(1e-5));
  CHECK(dose.kl == Approx(.1).epsilon(1e-5));
  CHECK(dose.reached);
  const int first = calls;
  CHECK(finder.find(.1).dose == dose.dose);
  CHECK(calls == first);
  CHECK(finder.curve().size() == static_cast<size_t>(calls));
}

TEST_CASE("[compare.dosing] few runs are enough, from wherever it begins") {
  for (const double first : {.01, .3, 1.0, 20.0}) {
    CAPTURE(first);
    int calls = 0;
    DoseFinder finder(
        [&](double dose) {
          ++calls;
          return softmax_kl(dose);
        },
        {.first = first});
    for (const double level : {.1, .3, 1.0}) {
      CAPTURE(level);
      const Dose dose = finder.find(level);
      CHECK(dose.reached);
      CHECK(dose.kl == Approx(level).epsilon(.031));
    }
    CHECK(calls <= 16);
  }
}

TEST_CASE("[compare.dosing] a level that no dose has is not reached, and says so") {
  DoseFinder saturated([](double dose) { return .2 * dose * dose / (1 + dose * dose); });
  const Dose above = saturated.find(.5);
  CHECK_FALSE(above.reached);
  CHECK(above.kl < .21);
  CHECK(saturated.find(.1).reached);

  DoseFinder floored(
      [](double dose) { return .3 + dose * dose; });  // an ablation costs something at any dose
  const Dose below = floored.find(.1);
  CHECK_FALSE(below.reached);
  CHECK(floored.find(1).kl == Approx(1).epsilon(.03));
}

TEST_CASE("[compare.dosing] a curve that turns back is crossed where it is first met") {
  // Rises to 1 at dose 1, falls to 0.2 at 3, rises again.
  const auto kl = [](double dose) {
    return dose <= 1 ? dose * dose : dose <= 3 ? 1 - .4 * (dose - 1) : .2 + (dose - 3);
  };
  DoseFinder finder(kl, {.first = .2});
  const Dose dose = finder.find(.5);
  CHECK(dose.reached);
  CHECK(dose.dose == Approx(std::sqrt(.5)).epsilon(.03));
}

TEST_CASE("[compare.dosing] a damaged model is an error") {
  DoseFinder finder([](double) { return std::nan(""); });
  CHECK(vyx::test::contains(vyx::test::error_of([&] { finder.find(.1); }), "found a KL of nan"));
}
