#include "apps/compare/sign_flip.h"

#include <cmath>
#include <random>

#include "tests/apps/compare/cluster_cases.h"
#include "tests/test_support.h"

using namespace vyx::compare;
using doctest::Approx;
using vyx::test::contains;
using vyx::test::error_of;
using vyx::test::Items;
using vyx::test::items_of;
using vyx::test::own_clusters;

namespace {

SignFlip flip(const Items& items, uint64_t seed = 1) {
  return sign_flip(items.values, items.clusters, seed);
}

}  // namespace

TEST_CASE("[compare.sign_flip] all flips are counted where they are few, as by hand") {
  // 4 of 256: the observed signs, their opposite, and both with the cluster of −.1 turned around.
  const SignFlip eight =
      flip(items_of({.9, 1.6, .2, 1.1, .7, 1.5, .4, -.1}, {2, 3, 1, 2, 1, 2, 2, 1}));
  CHECK(eight.mean == Approx(.45));
  CHECK(eight.p == .015625);
  CHECK(eight.interval.low == Approx(.2));
  CHECK(eight.interval.high == Approx(19. / 30));
  CHECK(eight.clusters == 8);
  CHECK(eight.exact);
  // scipy.stats.permutation_test(…, permutation_type="samples") of the mean.
  CHECK(flip({{.3, -.1, .2, .5, .1}, own_clusters(5)}).p == Approx(.1875));
  CHECK(flip({{0, 0, 0}, own_clusters(3)}).p == 1);
}

TEST_CASE("[compare.sign_flip] too few clusters give no interval, and one shows nothing") {
  const SignFlip five = flip({{1, 2, 3, 4, 5}, own_clusters(5)});
  CHECK(five.p == Approx(1. / 16));  // the least that they can show
  CHECK(std::isnan(five.interval.low));
  CHECK(std::isnan(five.interval.high));
  const SignFlip six = flip({{1, 2, 3, 4, 5, 6}, own_clusters(6)});
  CHECK(six.p == Approx(1. / 32));
  CHECK(six.interval.low == 1);
  CHECK(six.interval.high == 6);
  CHECK(flip({{1, 2, 3}, {7, 7, 7}}).p == 1);
  CHECK(flip({{}, {}}).p == 1);
  CHECK(std::isnan(flip({{}, {}}).mean));
  const SignFlip broken = flip({{1, std::nan(""), 2, 1, 1, 2, 3}, own_clusters(7)});
  CHECK(broken.p == 1);
  CHECK(std::isnan(broken.interval.low));
  CHECK(contains(error_of([] { flip({{1, 2}, {0}}); }), "one cluster per value"));
}

TEST_CASE("[compare.sign_flip] what is drawn agrees with what is counted") {
  // One cluster more, of nothing, doubles each flip and makes them too many to count.
  std::mt19937_64 random(3);
  std::normal_distribution<double> normal(.4, 1);
  std::vector<double> sums(16);
  for (double& sum : sums) sum = normal(random);
  const SignFlip counted = flip({sums, own_clusters(16)});
  Items more{sums, own_clusters(17)};
  more.values.push_back(0);
  const SignFlip drawn = flip(more);
  CHECK(counted.exact);
  CHECK_FALSE(drawn.exact);
  CHECK(std::fabs(drawn.p - counted.p) < 4 * std::sqrt(counted.p / 9'999));
  CHECK(std::fabs(drawn.interval.low * 17 / 16 - counted.interval.low) < .1);
  CHECK(std::fabs(drawn.interval.high * 17 / 16 - counted.interval.high) < .1);
  CHECK(flip(more, 2).p != drawn.p);
  CHECK(flip(more).p == drawn.p);
}

TEST_CASE("[compare.sign_flip] the interval is what the test does not reject") {
  std::mt19937_64 random(5);
  std::normal_distribution<double> normal(.5, 1);
  std::vector<double> values(9);
  for (double& value : values) value = normal(random);
  const Interval interval = flip({values, own_clusters(9)}).interval;
  const auto p_at = [&](double mean) {
    std::vector<double> rest = values;
    for (double& value : rest) value -= mean;
    return flip({rest, own_clusters(9)}).p;
  };
  constexpr double kStep = 1e-6;
  CHECK(p_at(interval.low + kStep) > .05);
  CHECK(p_at(interval.high - kStep) > .05);
  CHECK(p_at(interval.low - kStep) <= .05);
  CHECK(p_at(interval.high + kStep) <= .05);
}
