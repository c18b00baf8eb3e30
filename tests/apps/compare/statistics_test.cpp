#include "apps/compare/statistics.h"

#include <cmath>
#include <vector>

#include "tests/test_support.h"

using namespace vyx::compare;
using doctest::Approx;

namespace {

using Values = std::vector<double>;

}  // namespace

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
