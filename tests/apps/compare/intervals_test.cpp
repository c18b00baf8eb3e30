#include "apps/compare/intervals.h"

#include <cmath>

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

using Shares = std::vector<double>;

Shares ones_of(size_t count, size_t ones) {
  Shares items(count);
  for (size_t i = 0; i < ones; ++i) items[i] = 1;
  return items;
}

Interval interval_of(const Items& items, uint64_t seed = 1) {
  return mean_interval(items.values, items.clusters, 9'999, seed);
}

}  // namespace

TEST_CASE("[compare.intervals] few clusters get Student's t with CR2, as numpy computes it") {
  // The first seven of the eight clusters below.
  const Interval seven =
      interval_of(items_of({.9, 1.6, .2, 1.1, .7, 1.5, .4}, {2, 3, 1, 2, 1, 2, 2}));
  CHECK(seven.low == Approx(0.3075730442).epsilon(1e-8));
  CHECK(seven.high == Approx(0.6770423405).epsilon(1e-8));
  const Interval two = interval_of(items_of({1, 3}, {1, 1}));  // Student's own, of one degree
  CHECK(two.low == Approx(2 - 12.70620474).epsilon(1e-8));
  CHECK(two.high == Approx(2 + 12.70620474).epsilon(1e-8));
}

TEST_CASE("[compare.intervals] from eight clusters on the bootstrap is studentised") {
  const Items eight = items_of({.9, 1.6, .2, 1.1, .7, 1.5, .4, -.1}, {2, 3, 1, 2, 1, 2, 2, 1});
  // 200,000 resamples in numpy, se .0815305: [.2116, .6096]; 9,999 are within .01 of it.
  const Interval interval = interval_of(eight);
  CHECK(std::fabs(interval.low - .2116) < .01);
  CHECK(std::fabs(interval.high - .6096) < .01);
  const Interval again = interval_of(eight), other = interval_of(eight, 2);
  CHECK(again.low == interval.low);
  CHECK(again.high == interval.high);
  CHECK(other.low != interval.low);
}

TEST_CASE("[compare.intervals] values of one cluster are drawn together") {
  // 10 clusters of 10 equal values are 10 values, not 100.
  Items items;
  for (size_t c = 0; c < 10; ++c)
    for (int i = 0; i < 10; ++i) {
      items.values.push_back(static_cast<double>(c));
      items.clusters.push_back(c);
    }
  const Interval together = interval_of(items);
  const Interval apart = interval_of({items.values, own_clusters(100)});
  CHECK(together.high - together.low > 2 * (apart.high - apart.low));
  const Interval single = interval_of({{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, own_clusters(10)});
  CHECK(together.low == Approx(single.low));
  CHECK(together.high == Approx(single.high));
}

TEST_CASE("[compare.intervals] no interval is made up where the data give none") {
  const auto none = [](const Interval& interval) {
    return std::isnan(interval.low) && std::isnan(interval.high);
  };
  CHECK(none(Interval{}));
  CHECK(none(interval_of({{}, {}})));
  CHECK(none(interval_of({{1, 2, 3}, {4, 4, 4}})));  // one cluster
  CHECK(none(interval_of({{1, std::nan(""), 3}, {0, 1, 2}})));
  CHECK(none(share_interval(Shares{})));
  CHECK(none(share_change_interval(Shares{}, Shares{})));
  CHECK(contains(error_of([] { interval_of({{1, 2}, {0}}); }), "2 values and the clusters of 1"));
  CHECK(contains(error_of([] { share_change_interval(Shares{1}, Shares{1, 0}); }), "1 items"));
}

TEST_CASE("[compare.intervals] values that are all alike leave nothing open") {
  const Interval interval = interval_of({std::vector<double>(12, .5), own_clusters(12)});
  CHECK(interval.low == .5);
  CHECK(interval.high == .5);
  const Interval few = interval_of({std::vector<double>(3, .5), own_clusters(3)});
  CHECK(few.low == .5);
  CHECK(few.high == .5);
}

TEST_CASE("[compare.intervals] a resample without spread leaves an end open") {
  // A third of the resamples of one 1 and eight zeros are nothing but zeros.
  std::vector<double> values(9);
  values[0] = 1;
  const Interval interval = interval_of({values, own_clusters(9)});
  CHECK(interval.low < 1. / 9);
  CHECK(interval.high == INFINITY);
}

TEST_CASE("[compare.intervals] shares have Wilson's interval, as scipy.stats.binomtest") {
  const Interval right = share_interval(ones_of(198, 130));
  CHECK(right.low == Approx(0.5880087219).epsilon(1e-8));
  CHECK(right.high == Approx(0.7191630572).epsilon(1e-8));
  const Interval all = share_interval(ones_of(14, 14));
  CHECK(all.low == Approx(0.7846891973).epsilon(1e-8));
  CHECK(all.high == Approx(1));
}

TEST_CASE("[compare.intervals] a share that changes for no item may still change") {
  const Shares before = ones_of(198, 130);
  const Interval unchanged = share_change_interval(before, before);
  CHECK(unchanged.low == Approx(-1.959964 / 200 * std::sqrt(2)).epsilon(1e-6));
  CHECK(unchanged.high == Approx(-unchanged.low));
  Shares after = before;
  after[0] = after[1] = after[2] = 0;
  after[197] = 1;
  // Bonett and Price: 2 of 200 gained, 4 lost.
  const Interval change = share_change_interval(before, after);
  const double half = 1.959964 * std::sqrt((6. / 200 - .01 * .01) / 200);
  CHECK(change.low == Approx(-.01 - half).epsilon(1e-6));
  CHECK(change.high == Approx(-.01 + half).epsilon(1e-6));
}

TEST_CASE("[compare.intervals] an independent margin adds up in squares, side by side") {
  const Interval wide = widened({.6, 1.3}, 1, .3);
  CHECK(wide.low == Approx(.5));  // 1 − √(.4² + .3²)
  CHECK(wide.high == Approx(1 + std::sqrt(.18)));
  CHECK(widened({.6, 1.3}, 1, 0).low == Approx(.6));
  CHECK(std::isnan(widened({.6, 1.3}, 1, std::nan("")).low));
  CHECK(std::isnan(widened({}, 1, .1).high));
}
