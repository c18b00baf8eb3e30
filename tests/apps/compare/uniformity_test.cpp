#include "tests/apps/compare/uniformity.h"

#include <cmath>
#include <random>

#include "tests/test_support.h"

using doctest::Approx;
using vyx::test::not_too_small_p;
using vyx::test::smirnov;
using vyx::test::spread;
using vyx::test::uniform_p;

namespace {

/// p-values of `count` observed values, each against `draws` values that are lower by `shift`.
std::vector<double> grid_of_p(int count, int draws, double shift) {
  std::mt19937_64 random(11);
  std::normal_distribution<double> normal;
  std::vector<double> p;
  for (int i = 0; i < count; ++i) {
    const double observed = normal(random) + shift;
    int reached = 0;
    for (int draw = 0; draw < draws; ++draw) reached += normal(random) >= observed;
    p.push_back(static_cast<double>(1 + reached) / (1 + draws));
  }
  return p;
}

}  // namespace

TEST_CASE("[compare.uniformity] Smirnov's distribution agrees with scipy.stats.ksone") {
  CHECK(smirnov(10, .4) == Approx(0.0294946904).epsilon(1e-8));
  CHECK(smirnov(200, .13) == Approx(0.001043562618).epsilon(1e-8));
  CHECK(smirnov(30, .05) == Approx(0.8339069227).epsilon(1e-8));
  CHECK(smirnov(5, 1) == Approx(0));
  const std::vector<double> values = {.02, .05, .11, .13, .2, .24, .31, .33, .4, .9};
  CHECK(not_too_small_p(values) ==
        Approx(0.003888705).epsilon(1e-8));                      // scipy.stats.kstest, "greater"
  CHECK(uniform_p(values) == Approx(0.00777741).epsilon(1e-3));  // "two-sided", which is exact
}

TEST_CASE("[compare.uniformity] right p-values on a coarse grid pass, wrong ones are found") {
  const auto right = grid_of_p(1'000, 19, 0);
  CHECK(uniform_p(right) < .02);  // a grid is not uniform: without spread() right ones look wrong
  CHECK(uniform_p(spread(right, 19, 1)) > .05);
  CHECK(not_too_small_p(spread(right, 19, 1)) > .05);
  for (const double shift : {-.6, .6}) {
    CAPTURE(shift);
    CHECK(uniform_p(spread(grid_of_p(200, 19, shift), 19, 1)) < .001);
  }
  CHECK(not_too_small_p(spread(grid_of_p(200, 19, .6), 19, 1)) < .001);
  CHECK(not_too_small_p(spread(grid_of_p(200, 19, -.6), 19, 1)) > .9);  // only careful
  // What has a point mass at 1, as a null that the method does not depend on.
  CHECK(uniform_p(std::vector<double>(200, 1.0)) < .001);
}
