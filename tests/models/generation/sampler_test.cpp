#include "tests/torch_support.h"

#include <array>
#include <cmath>
#include <limits>
#include <map>

#include "models/generation/sampler.h"

using namespace vyx;
using namespace vyx::models;

namespace {

/// Logits of these probabilities.
std::vector<float> logits_of(std::initializer_list<double> probabilities) {
  std::vector<float> logits;
  for (const double p : probabilities) logits.push_back(static_cast<float>(std::log(p)));
  return logits;
}

/// How often each token is drawn.
std::map<TokenId, int> draws(const SamplingOptions& options, const std::vector<float>& logits,
                             int count = 4000) {
  Sampler sampler(options);
  std::map<TokenId, int> counts;
  for (int i = 0; i < count; ++i) ++counts[sampler.sample(logits, {})];
  return counts;
}

}  // namespace

TEST_CASE("[models.sampler] greedy takes the best, of equals the lower id") {
  Sampler sampler({});
  CHECK(sampler.sample(std::vector<float>{-1, 3, 2, 3}, {}) == 1);
  CHECK(sampler.sample(std::vector<float>{-INFINITY, -5, -INFINITY}, {}) == 1);
}

TEST_CASE(
    "[models.sampler] tokens are drawn with their probabilities, which the temperature sharpens") {
  const auto logits = logits_of({0.5, 0.2, 0.3});
  const auto plain = draws({.temperature = 1, .seed = 1}, logits);
  CHECK(plain.at(0) == doctest::Approx(2000).epsilon(0.06));
  CHECK(plain.at(1) == doctest::Approx(800).epsilon(0.1));
  const auto cold = draws({.temperature = 0.5, .seed = 1}, logits);  // squares: .25, .04, .09
  CHECK(cold.at(0) == doctest::Approx(4000 * 0.25 / 0.38).epsilon(0.06));
  CHECK(cold.at(1) == doctest::Approx(4000 * 0.04 / 0.38).epsilon(0.15));
}

TEST_CASE("[models.sampler] top-k keeps k tokens, of equals those of lower id") {
  const auto counts =
      draws({.temperature = 1, .top_k = 2, .seed = 2}, logits_of({0.2, 0.2, 0.4, 0.2}));
  REQUIRE(counts.size() == 2);
  CHECK(counts.contains(2));
  CHECK(counts.contains(0));
}

TEST_CASE("[models.sampler] top-p keeps the smallest set that holds p") {
  const auto logits = logits_of({0.05, 0.5, 0.15, 0.3});
  CHECK(draws({.temperature = 1, .top_p = 0.45, .seed = 3}, logits).size() == 1);
  CHECK(draws({.temperature = 1, .top_p = 0.75, .seed = 3}, logits).size() == 2);
  CHECK(draws({.temperature = 1, .top_p = 0.85, .seed = 3}, logits).size() == 3);
}

TEST_CASE("[models.sampler] top-p is of what top-k has left") {
  // After top-k: 5/8, 3/8. The first alone holds 0.6 of it, though not of all.
  CHECK(draws({.temperature = 1, .top_k = 2, .top_p = 0.6, .seed = 3}, logits_of({0.5, 0.3, 0.2}))
            .size() == 1);
}

TEST_CASE("[models.sampler] top-p finds its set however wide it is") {
  const std::vector<float> flat(5000, 0.0f);
  const auto counts = draws({.temperature = 1, .top_p = 0.5, .seed = 4}, flat, 20000);
  CHECK(counts.rbegin()->first < 2501);
  CHECK(counts.size() > 2400);
}

TEST_CASE("[models.sampler] min-p keeps tokens with that share of the best one's probability") {
  const auto logits = logits_of({0.4, 0.3, 0.19, 0.11});
  CHECK(draws({.temperature = 1, .min_p = 0.25, .seed = 5}, logits).size() == 4);
  CHECK(draws({.temperature = 1, .min_p = 0.4, .seed = 5}, logits).size() == 3);
  CHECK(draws({.temperature = 1, .min_p = 1, .seed = 5}, logits).size() == 1);
}

TEST_CASE(
    "[models.sampler] the repetition penalty divides positive and multiplies negative logits, once "
    "a token") {
  Sampler sampler({.repetition_penalty = 2});
  const std::array<TokenId, 3> seen{0, 0, 0};
  CHECK(sampler.sample(std::vector<float>{3.0f, 1.6f}, seen) == 1);    // 1.5 < 1.6
  CHECK(sampler.sample(std::vector<float>{3.0f, 1.4f}, seen) == 0);    // not 0.375
  CHECK(sampler.sample(std::vector<float>{-1.0f, -1.5f}, seen) == 1);  // -2 < -1.5
}

TEST_CASE("[models.sampler] one seed gives one sequence") {
  const std::vector<float> flat(100, 0.0f);
  const auto sequence = [&](uint64_t seed) {
    Sampler sampler({.temperature = 1, .seed = seed});
    std::vector<TokenId> tokens;
    for (int i = 0; i < 20; ++i) tokens.push_back(sampler.sample(flat, {}));
    return tokens;
  };
  CHECK(sequence(7) == sequence(7));
  CHECK(sequence(7) != sequence(8));
}

TEST_CASE("[models.sampler] NaN, and logits without a finite one, are errors") {
  Sampler sampler({});
  CHECK(test::contains(test::error_of([&] {
                         sampler.sample(std::vector<float>{1, NAN, 0}, {});
                       }),
                       "NaN"));
  CHECK(test::contains(test::error_of([&] {
                         sampler.sample(std::vector<float>{-INFINITY, -INFINITY}, {});
                       }),
                       "no finite"));
}

TEST_CASE("[models.sampler] options that mean nothing are bad usage") {
  CHECK_THROWS_AS(validate(SamplingOptions{.temperature = -1}), UsageError);
  CHECK_THROWS_AS(
      validate(SamplingOptions{.temperature = std::numeric_limits<double>::quiet_NaN()}),
      UsageError);
  CHECK_THROWS_AS(validate(SamplingOptions{.top_k = -1}), UsageError);
  CHECK_THROWS_AS(validate(SamplingOptions{.top_p = 0}), UsageError);
  CHECK_THROWS_AS(validate(SamplingOptions{.min_p = 1.5}), UsageError);
  CHECK_THROWS_AS(validate(SamplingOptions{.repetition_penalty = 0}), UsageError);
  validate(SamplingOptions{});
}
