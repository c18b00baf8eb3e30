#include "apps/compare/p_values.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "tests/apps/compare/uniformity.h"
#include "tests/test_support.h"

using namespace vyx::compare;
using doctest::Approx;
using vyx::test::contains;
using vyx::test::error_of;

namespace {

using Row = std::vector<double>;
const Row kTenDraws = {.1, -.2, .05, .3, -.1, 0, .15, -.05, .2, -.25};

/// Rows of three methods: two that nearly agree, and one of a tenth of their spread. `shift`: of
/// the methods' means, in their own standard deviations.
Row draw_of_three(std::mt19937_64& random, const Row& shift = {0, 0, 0}) {
  std::normal_distribution<double> normal;
  const double a = normal(random), b = .9 * a + std::sqrt(1 - .81) * normal(random);
  return {a + shift[0], b + shift[1], .1 * (normal(random) + shift[2])};
}

}  // namespace

TEST_CASE("[compare.p_values] an effect is compared with the largest that the null gives") {
  CHECK(null_z(.9, kTenDraws) == Approx(5.025154).epsilon(1e-6));
  CHECK(null_p(.9, kTenDraws) == Approx(.0909091).epsilon(1e-6));  // 10 draws can never give .05
  CHECK(null_p(.2, kTenDraws) == Approx(3.0 / 11));                // equal counts as reached
  CHECK(null_p(-1, kTenDraws) == 1);
  CHECK(null_p(1, {}) == 1);
  CHECK(std::isnan(null_z(1, Row{1})));
  // What could not be measured is no evidence.
  CHECK(null_p(.9, Row{.1, std::nan(""), .2}) == .5);
  CHECK(null_p(std::nan(""), kTenDraws) == 1);
}

TEST_CASE(
    "[compare.p_values] Holm's adjustment keeps the order and leaves out what was not tested") {
  const Row adjusted = holm(Row{.01, .04, std::nan(""), .03});
  CHECK(adjusted[0] == Approx(.03));
  CHECK(adjusted[3] == Approx(.06));
  CHECK(adjusted[1] == Approx(.06));  // not .04: no hypothesis passes after a smaller one failed
  CHECK(std::isnan(adjusted[2]));
  CHECK(holm(Row{.6, .7})[1] == 1);
}

TEST_CASE("[compare.p_values] step-down compares with the largest of the methods that are left") {
  // Worked out by hand, in standard deviations of each column.
  //
  //     method       a    b    c
  //     observed     4    3    2     all columns hold 0 1 2 3 4: the same mean and deviation
  //     draws        0    4    3
  //                  1    2    4
  //                  2    1    0
  //                  3    0    1
  const std::vector<Row> draws = {{0, 4, 3}, {1, 2, 4}, {2, 1, 0}, {3, 0, 1}};
  const StepDown result = step_down(Row{4, 3, 2}, draws);
  CHECK(result.p[0] == Approx(3. / 5));  // rows that reach 4 anywhere: the observed, two draws
  CHECK(result.p[1] == Approx(3. / 5));  // that reach 3 in b or c: the same
  CHECK(result.p[2] == Approx(3. / 5));  // that reach 2 in c: the same
  CHECK(result.global_p == Approx(3. / 5));
  const StepDown clear = step_down(Row{9, 3, 2}, draws);
  CHECK(clear.p[0] == Approx(1. / 5));
  CHECK(clear.p[1] == Approx(3. / 5));
  CHECK(clear.global_p == Approx(1. / 5));
  // The second one's own share of rows is 2 of 6, and raised to the first one's.
  const StepDown raised = step_down(Row{3, 1}, {{4, 0}, {4, 0}, {4, 0}, {0, 0}, {0, 5}});
  CHECK(raised.p[0] == Approx(5. / 6));
  CHECK(raised.p[1] == Approx(5. / 6));
}

TEST_CASE("[compare.p_values] step-down counts itself, and says what it can't do") {
  CHECK(step_down(Row{1, 2}, {}).global_p == 1);
  CHECK(step_down({}, {}).p.empty());
  CHECK(step_down(Row{1}, {{1}, {1}}).p[0] == 1);  // all alike: nothing is shown
  CHECK(contains(error_of([] { step_down(Row{1, 2}, {{1}}); }), "a draw of 1 methods"));
  CHECK(contains(error_of([] { step_down(Row{1}, {{std::nan("")}}); }), "an effect of nan"));
  CHECK(contains(error_of([] { step_down(Row{std::numeric_limits<double>::infinity()}, {{1}}); }),
                 "expected a number"));
}

TEST_CASE("[compare.p_values] step-down: one false alarm in twenty over all methods, few draws") {
  std::mt19937_64 random(23);
  constexpr int kWorlds = 1'000, kDraws = 19;
  int none_true = 0, one_true = 0, found = 0;
  std::vector<double> global;
  for (int world = 0; world < kWorlds; ++world) {
    std::vector<Row> draws;
    for (int i = 0; i < kDraws; ++i) draws.push_back(draw_of_three(random));
    const StepDown nothing = step_down(draw_of_three(random), draws);
    none_true += *std::min_element(nothing.p.begin(), nothing.p.end()) <= .05;
    global.push_back(nothing.global_p);
    const StepDown third = step_down(draw_of_three(random, {0, 0, 6}), draws);
    found += third.p[2] <= .05;
    one_true += std::min(third.p[0], third.p[1]) <= .05;
  }
  CHECK(none_true >= 25);  // 50 expected, standard deviation 7
  CHECK(none_true <= 75);
  CHECK(one_true <= 75);
  CHECK(found > 900);  // although its effect is the smallest in size
  CHECK(vyx::test::uniform_p(vyx::test::spread(global, kDraws, 1)) > .001);
}

TEST_CASE("[compare.p_values] draws stop when ten have reached the observed value") {
  SequentialP early(.5, 3, 20);
  for (const double draw : {.6, .1, .5, .2, .9}) {
    CHECK_FALSE(early.done());
    early.add(draw);
  }
  CHECK(early.done());
  CHECK(early.p() == Approx(3. / 5));
  CHECK(early.next_smaller_p() == Approx(3. / 6));
  CHECK(contains(error_of([&] { early.add(1); }), "a draw after the last of 5"));

  SequentialP late(.5, 3, 9);
  CHECK(late.p() == 1);
  for (int i = 0; i < 9; ++i) late.add(i == 4 ? 1 : 0);
  CHECK(late.done());
  CHECK(late.p() == Approx(2. / 10));
  CHECK(late.next_smaller_p() == Approx(1. / 10));

  SequentialP unknown(std::nan(""), 2, 9);
  unknown.add(0);
  unknown.add(0);
  CHECK(unknown.done());
  CHECK(unknown.p() == 1);
}

TEST_CASE("[compare.p_values] stopping early keeps the level, and saves nine draws of ten") {
  std::mt19937_64 random(29);
  std::uniform_real_distribution<double> uniform;
  constexpr int kWorlds = 4'000;
  std::vector<double> p, next_smaller;
  int64_t draws = 0;
  for (int world = 0; world < kWorlds; ++world) {
    SequentialP sequential(uniform(random));
    while (!sequential.done()) sequential.add(uniform(random));
    p.push_back(sequential.p());
    next_smaller.push_back(sequential.next_smaller_p());
    draws += sequential.draws();
  }
  const auto small = [&](double level) {
    return std::count_if(p.begin(), p.end(), [&](double value) { return value <= level; });
  };
  CHECK(small(.05) >= 150);  // 200 expected, standard deviation 14
  CHECK(small(.05) <= 250);
  CHECK(small(.05 / 6) <= 55);  // 33 expected, standard deviation 6
  CHECK(vyx::test::uniform_p(vyx::test::spread(p, next_smaller, 1)) > .001);
  CHECK(static_cast<double>(draws) / kWorlds == Approx(49).epsilon(.06));  // h(1 + ln(R / h))
}
