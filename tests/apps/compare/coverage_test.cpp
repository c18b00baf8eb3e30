// Simulations: do intervals hold what they should hold as often as they say? With 399 resamples
// each, where the comparison takes 9,999.
#include <cmath>
#include <random>

#include "apps/compare/intervals.h"
#include "apps/compare/sign_flip.h"
#include "tests/apps/compare/cluster_cases.h"
#include "tests/test_support.h"

using namespace vyx::compare;
using vyx::test::Items;

namespace {

constexpr double kSigma = .75;                             // of the lognormal: a skewness of 3
constexpr double kTogether = .3;                           // of the variance is the cluster's
const std::vector<size_t> kSizes = {1, 2, 3, 2, 1, 4, 2};  // of clusters, on and on: 15 items in 7

struct World {
  size_t clusters = 14;
  bool unequal = false;  // clusters of kSizes, not of one item
  bool skewed = false;
};

double truth(const World& world) {
  return world.skewed ? std::exp(kSigma * kSigma / 2) : 0;
}

Items draw(const World& world, std::mt19937_64& random) {
  std::normal_distribution<double> normal;
  Items items;
  for (size_t g = 0; g < world.clusters; ++g) {
    const double shared = normal(random);
    for (size_t i = 0; i < (world.unequal ? kSizes[g % kSizes.size()] : 1); ++i) {
      const double z = std::sqrt(kTogether) * shared + std::sqrt(1 - kTogether) * normal(random);
      items.values.push_back(world.skewed ? std::exp(kSigma * z) : z);
      items.clusters.push_back(g);
    }
  }
  return items;
}

template <class IntervalOf>
double coverage(const World& world, int worlds, IntervalOf&& interval_of) {
  std::mt19937_64 random(17);
  int held = 0;
  for (int i = 0; i < worlds; ++i) {
    const Interval interval = interval_of(draw(world, random), static_cast<uint64_t>(i));
    held += interval.low <= truth(world) && truth(world) <= interval.high;
  }
  return static_cast<double>(held) / worlds;
}

double of_means(const World& world) {
  return coverage(world, 2'000, [](const Items& items, uint64_t seed) {
    return mean_interval(items.values, items.clusters, 399, seed);
  });
}

}  // namespace

TEST_CASE("[compare.coverage] intervals of means hold 93 % of normal and 91 % of skewed data") {
  for (const World& world : {World{.clusters = 14}, World{.clusters = 28},
                             World{.clusters = 14, .unequal = true}}) {  // 14, 28 and 30 items
    CAPTURE(world.clusters);
    CAPTURE(world.unequal);
    World skewed = world;
    skewed.skewed = true;
    const double normal = of_means(world), lognormal = of_means(skewed);
    CAPTURE(normal);
    CAPTURE(lognormal);
    CHECK(normal >= .93);
    CHECK(normal <= .97);
    CHECK(lognormal >= .91);
    CHECK(lognormal <= .97);
  }
}

TEST_CASE("[compare.coverage] seven clusters of skewed data are where the intervals are weakest") {
  const double normal = of_means({.clusters = 7, .unequal = true}),
               lognormal = of_means({.clusters = 7, .unequal = true, .skewed = true});
  CAPTURE(normal);
  CAPTURE(lognormal);
  CHECK(normal >= .93);
  CHECK(lognormal >= .89);
}

TEST_CASE("[compare.coverage] a sign flip's level and its interval are right for normal data") {
  int rejected = 0;
  constexpr int kWorlds = 600;
  const auto flips = [&](const Items& items, uint64_t seed) {
    const SignFlip result = sign_flip(items.values, items.clusters, seed);
    rejected += result.p <= .05;
    return result.interval;
  };
  for (const World& world :
       {World{.clusters = 8}, World{.clusters = 8, .unequal = true}, World{.clusters = 14}}) {
    rejected = 0;
    CAPTURE(world.clusters);
    const double held = coverage(world, kWorlds, flips);
    CHECK(held >= .93);
    CHECK(held <= .98);
    CHECK(rejected >= .025 * kWorlds);
    CHECK(rejected <= .08 * kWorlds);
  }
}
