#include "apps/compare/statistics.h"

#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "tests/test_support.h"

using namespace vyx::compare;
using doctest::Approx;

namespace {

using Values = std::vector<double>;
const Values kNull = {.1, -.2, .05, .3, -.1, 0, .15, -.05, .2, -.25};

std::vector<size_t> own_clusters(size_t count) {
  std::vector<size_t> clusters(count);
  std::iota(clusters.begin(), clusters.end(), size_t{0});
  return clusters;
}

}  // namespace

TEST_CASE("[compare.statistics] an effect is compared with the largest that the null gives") {
  CHECK(null_z(.9, kNull) == Approx(5.025154).epsilon(1e-6));
  CHECK(null_p(.9, kNull) == Approx(.0909091).epsilon(1e-6));  // 10 draws can never give .05
  CHECK(null_p(.2, kNull) == Approx(3.0 / 11));                // equal counts as reached
  CHECK(null_p(-1, kNull) == 1);
  CHECK(null_p(1, {}) == 1);
  CHECK(std::isnan(null_z(1, Values{1})));
}

TEST_CASE(
    "[compare.statistics] Holm's adjustment keeps the order and leaves out what was not tested") {
  const Values adjusted = holm(Values{.01, .04, std::nan(""), .03});
  CHECK(adjusted[0] == Approx(.03));
  CHECK(adjusted[3] == Approx(.06));
  CHECK(adjusted[1] == Approx(.06));  // not .04: no hypothesis passes after a smaller one failed
  CHECK(std::isnan(adjusted[2]));
  CHECK(holm(Values{.6, .7})[1] == 1);
}

TEST_CASE("[compare.statistics] slopes of items, and the share that steers the wrong way") {
  const Values doses = {-1, 0, 1};
  CHECK(slope(doses, Values{-1, 0, 2}) == Approx(1.5));
  CHECK(slope(doses, Values{.5, 0, -.5}) == Approx(-.5));
  CHECK(slope(doses, Values{1, 1.5, 2}) == Approx(.5));
}

TEST_CASE("[compare.statistics] Spearman's correlation is of ranks, ties by their mean") {
  CHECK(spearman(Values{1, 2, 3, 4}, Values{1, 10, 100, 1000}) == Approx(1));
  CHECK(spearman(Values{1, 2, 3}, Values{3, 2, 1}) == Approx(-1));
  CHECK(spearman(Values{1, 2, 3, 4}, Values{1, 2, 2, 3}) ==
        Approx(.9486833));  // scipy.stats.spearmanr
  CHECK(std::isnan(spearman(Values{1, 2, 3}, Values{1, 1, 1})));
}

TEST_CASE("[compare.statistics] repetition is counted in n-grams") {
  const std::vector<vyx::models::TokenId> text = {0, 1, 0, 1, 0, 1, 2};  // a b a b a b c
  CHECK(distinct_ngrams(text, 1) == Approx(.428571).epsilon(1e-5));
  CHECK(distinct_ngrams(text, 2) == Approx(.5));
  CHECK(repeated_ngrams(text, 4) == Approx(.25));
  CHECK(std::isnan(distinct_ngrams(text, 8)));
}

TEST_CASE("[compare.statistics] quantiles are linear between order statistics") {
  CHECK(quantile(Values{3, 1, 2}, .5) == 2);
  CHECK(quantile(Values{0, 1}, .25) == Approx(.25));
  CHECK(std::isnan(quantile({}, .5)));
}

TEST_CASE("[compare.statistics] the interval holds the mean about as often as it says") {
  std::mt19937_64 random(5);
  std::normal_distribution<double> normal(.3, 1);
  int held = 0;
  constexpr int kTrials = 200;
  for (int trial = 0; trial < kTrials; ++trial) {
    Values values(40);
    for (double& value : values) value = normal(random);
    const Interval interval =
        cluster_bootstrap(values, own_clusters(values.size()), 400, static_cast<uint64_t>(trial));
    held += interval.low <= .3 && .3 <= interval.high;
  }
  CHECK(held >= 178);  // 95 % of 200 are 190, standard deviation 3
  CHECK(held <= 199);
}

TEST_CASE("[compare.statistics] values of one cluster are drawn together") {
  // 10 clusters of 10 equal values are 10 values, not 100.
  Values values;
  std::vector<size_t> clusters;
  for (size_t c = 0; c < 10; ++c)
    for (int i = 0; i < 10; ++i) {
      values.push_back(static_cast<double>(c));
      clusters.push_back(c);
    }
  const Interval together = cluster_bootstrap(values, clusters, 2000, 1),
                 apart = cluster_bootstrap(values, own_clusters(100), 2000, 1);
  CHECK(together.high - together.low > 2 * (apart.high - apart.low));
  const Interval again = cluster_bootstrap(values, clusters, 2000, 1);
  CHECK(again.low == together.low);
  CHECK(again.high == together.high);
}
