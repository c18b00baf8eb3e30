#include "tests/torch_support.h"

#include "steering/effects/sweep.h"

#include <cmath>

#include "models/generation/generate.h"
#include "tests/steering/planted_model.h"

namespace {

using namespace vyx::steering;
using namespace vyx::test;

struct Swept {
  vyx::models::LanguageModel model = planted_model();
  EffectMeter meter{model,
                    {{"Say it", "GOOD", "bad"}, {"And?", "YES", "no"}},
                    "A canal is an artificial waterway."};
  std::vector<WeightedVector> vectors = {
      {vector_at({"model.layers.0:output", "model.layers.1:output"}), 1, ""}};

  Sweep run(const SweepOptions& options) { return sweep(model, vectors, meter, options); }
};

}  // namespace

TEST_CASE("[steering.sweep] both signs and 0 are measured in order, and reported as they come") {
  Swept swept;
  std::vector<double> reported;
  const Sweep result = sweep(swept.model, swept.vectors, swept.meter, {.coefficients = {2, 0.5, 2}},
                             [&](const SweepRow& row) { reported.push_back(row.coefficient); });
  CHECK(reported == std::vector<double>{-2, -0.5, 0, 0.5, 2});
  REQUIRE(result.rows.size() == 5);
  for (size_t i = 0; i + 1 < result.rows.size(); ++i) {
    CHECK(result.rows[i].coefficient == reported[i]);
    CHECK(result.rows[i].effect.shift < result.rows[i + 1].effect.shift);
  }
  CHECK(result.rows[2].effect.shift == 0);
  CHECK(result.rows[2].effect.kl_mean == 0);
  CHECK(result.rows[4].effect.kl_mean > result.rows[3].effect.kl_mean);
}

TEST_CASE("[steering.sweep] a row is what the meter measures with that coefficient") {
  Swept swept;
  const Sweep result = swept.run({.coefficients = {1.5}});
  swept.vectors[0].coefficient = 1.5;
  const Steering steering = steer(swept.model, swept.vectors);
  const Effect effect = swept.meter.measure();
  CHECK(result.rows[2].effect.shift == doctest::Approx(effect.shift).epsilon(1e-4));
  CHECK(result.rows[2].effect.kl_mean == doctest::Approx(effect.kl_mean).epsilon(1e-3));
}

TEST_CASE("[steering.sweep] the strongest coefficient is chosen whose two signs are mild") {
  Swept swept;
  const std::vector<double> coefficients = {0.5, 1, 2};
  const Sweep all = swept.run({.coefficients = coefficients, .max_kl = 1000});
  CHECK(all.chosen == 2);
  // Between the KL of ±1 and that of ±2, then below all.
  const auto kl = [&](size_t i) { return all.rows[i].effect.kl_mean; };
  const double worst_at_1 = std::max(kl(1), kl(5)), worst_at_2 = std::max(kl(0), kl(6));
  REQUIRE(worst_at_1 < worst_at_2);
  CHECK(swept.run({.coefficients = coefficients, .max_kl = (worst_at_1 + worst_at_2) / 2}).chosen ==
        1);
  CHECK_FALSE(swept.run({.coefficients = coefficients, .max_kl = 1e-9}).chosen);
}

TEST_CASE("[steering.sweep] continuations of one token are not swept with generated tokens alone") {
  auto model = planted_model();
  const std::vector<WeightedVector> vectors = {{vector_at({"model.layers.1:output"}), 1, ""}};
  const SweepOptions options{.coefficients = {4},
                             .steer = {.positions = vyx::Positions::generated}};
  std::vector<ContinuationPair> pairs = {{"I feel", "A", "a"}, {"The food was", "B", "b"}};
  EffectMeter all(model, pairs, "Some canals carry boats.");
  CHECK(contains(error_of([&] { sweep(model, vectors, all, options); }),
                 "all 2 pairs are one token long"));
  // What generation does: the first token is predicted from the prompt, which is not edited.
  const auto first_token = [&] {
    return vyx::models::generate(model, "I feel", {.max_tokens = 1}).rows[0].tokens;
  };
  const auto plain = first_token();
  Steering steering = steer(model, vectors, options.steer);
  steering.set_scale(50);
  CHECK(first_token() == plain);
  CHECK(steering.firings() == 0);
  const std::vector<double> preference = all.preference();
  steering.set_scale(0);
  CHECK(all.preference() == preference);

  pairs.push_back({"And", "CD", "cd"});
  EffectMeter some(model, pairs, "Some canals carry boats.");
  CHECK(some.single_token_pairs() == 2);
  CHECK(sweep(model, vectors, some, options).rows.back().effect.shift > 0.01);
}

TEST_CASE("[steering.sweep] both signs must move the preference their own way") {
  const auto rows = [](double down, double up) {
    return std::vector<SweepRow>{
        {-2, {.shift = down, .kl_mean = 0.1}}, {0, {}}, {2, {.shift = up, .kl_mean = 0.1}}};
  };
  CHECK(choose_coefficient(rows(-1, 1), 0.2) == 2);
  CHECK_FALSE(choose_coefficient(rows(1, 1), 0.2));
  CHECK_FALSE(choose_coefficient(rows(-1, -1), 0.2));
  CHECK_FALSE(choose_coefficient(rows(-1, 1), 0.05));
}

TEST_CASE("[steering.sweep] a vector that moves the preference the wrong way is not chosen") {
  Swept swept;
  swept.vectors[0].coefficient = -1;
  CHECK_FALSE(swept.run({.coefficients = {1}, .max_kl = 1000}).chosen);
}

TEST_CASE("[steering.sweep] the model is as before when it is over") {
  Swept swept;
  const auto batch = batch_of(swept.model, {"Hello"});
  const at::Tensor before = swept.model.logits(batch);
  swept.run({.coefficients = {2}});
  CHECK(at::equal(swept.model.logits(batch), before));
}

TEST_CASE("[steering.sweep] coefficients that make no sweep are refused") {
  Swept swept;
  for (const std::vector<double>& bad : {std::vector<double>{}, {0}, {-1}, {1, std::nan("")}}) {
    CHECK_THROWS_AS(swept.run({.coefficients = bad}), vyx::UsageError);
  }
}
