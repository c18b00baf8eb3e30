#include "tests/torch_support.h"

#include "steering/effects/effects.h"

#include <algorithm>
#include <array>

#include "steering/edits/steer.h"
#include "tests/steering/planted_model.h"

namespace {

using namespace vyx::steering;
using namespace vyx::test;
using vyx::models::LanguageModel;

constexpr std::string_view kNeutral = "A canal is an artificial waterway. Some canals carry boats.";

// Prompts and continuations of different lengths, so that every batch is padded on both sides.
const std::vector<ContinuationPair> kPairs = {
    {"How was it?", " GOOD DAY", " bad day"},
    {"A", "YES", "no"},
    {"Tell me of the long road home.", "WE SANG", "we wept on"},
    {"And", "B", "b"}};

/// Steers the planted model towards the capitals by `coefficient`.
Steering towards_capitals(LanguageModel& model, double coefficient,
                          const SteerOptions& options = {}) {
  const std::vector<WeightedVector> vectors = {
      {vector_at({"model.layers.0:output", "model.layers.1:output"}), coefficient, ""}};
  return steer(model, vectors, options);
}

/// Mean log-probability per token of `continuation` behind `prompt`, from the whole sequence alone.
double likelihood(LanguageModel& model, const std::string& prompt, const std::string& continuation,
                  bool chat) {
  std::vector<vyx::models::TokenId> tokens = model.encode_prompt(prompt, chat);
  const auto own = model.tokenizer().encode(continuation);
  tokens.insert(tokens.end(), own.begin(), own.end());
  const std::array rows{tokens};
  const auto batch = vyx::models::make_batch(rows, vyx::models::Padding::right, 0);
  const at::Tensor each = model.token_log_probabilities(batch)[0];  // [seq − 1]
  return each.slice(0, each.size(0) - static_cast<int64_t>(own.size()))
      .to(at::kDouble)
      .mean()
      .item<double>();
}

}  // namespace

TEST_CASE(
    "[steering.effects] a preference is that of each pair alone, teacher-forced, padding apart") {
  auto model = planted_model();
  for (const bool chat : {false, true}) {
    CAPTURE(chat);
    EffectMeter meter(model, kPairs, kNeutral, {.chat = chat});
    const Steering steering = towards_capitals(model, 1.5);
    const std::vector<double> preference = meter.preference();
    REQUIRE(preference.size() == kPairs.size());
    for (size_t i = 0; i < kPairs.size(); ++i) {
      CAPTURE(i);
      const auto& [prompt, positive, negative] = kPairs[i];
      CHECK(preference[i] == doctest::Approx(likelihood(model, prompt, positive, chat) -
                                             likelihood(model, prompt, negative, chat))
                                 .epsilon(1e-4));
    }
  }
}

TEST_CASE("[steering.effects] more pairs than a batch holds are measured as each alone") {
  auto model = planted_model();
  std::vector<ContinuationPair> many;
  for (size_t i = 0; i < 70; ++i)
    many.push_back({std::string(1 + 3 * (i % 30), 'x'), std::string(1 + i % 4, 'A'), "b"});
  EffectMeter meter(model, many, kNeutral, {.chat = false});
  const std::vector<double> preference = meter.preference();
  for (const size_t i : {size_t{0}, size_t{29}, size_t{69}}) {
    CAPTURE(i);
    CHECK(preference[i] ==
          doctest::Approx(likelihood(model, many[i].prompt, many[i].positive, false) -
                          likelihood(model, many[i].prompt, many[i].negative, false))
              .epsilon(1e-4));
  }
}

TEST_CASE("[steering.effects] an unsteered model has no effect at all") {
  auto model = planted_model();
  EffectMeter meter(model, kPairs, kNeutral);
  const Effect effect = meter.measure();
  CHECK(effect.shift == 0);
  CHECK(effect.positive_share == 0);
  CHECK(effect.kl_mean == 0);
  CHECK(effect.kl_p95 == 0);
}

TEST_CASE(
    "[steering.effects] steering towards the capitals shifts the preference there, and the other "
    "way back") {
  auto model = planted_model();
  EffectMeter meter(model, kPairs, kNeutral);
  const std::vector<double> before = meter.preference();
  CHECK(meter.baseline_preference() ==
        doctest::Approx((before[0] + before[1] + before[2] + before[3]) / 4));
  {
    const Steering up = towards_capitals(model, 2);
    const Effect effect = meter.measure();
    CHECK(effect.shift > 0.1);
    CHECK(effect.positive_share == 1);
    CHECK(effect.kl_mean > 0.01);
    CHECK(effect.kl_p95 >= effect.kl_mean);
    const std::vector<double> after = meter.preference();
    double shift = 0;
    for (size_t i = 0; i < after.size(); ++i) shift += (after[i] - before[i]) / 4;
    CHECK(effect.shift == doctest::Approx(shift));
  }
  const Steering down = towards_capitals(model, -2);
  CHECK(meter.measure().shift < -0.1);
  CHECK(meter.measure().positive_share == 0);
}

TEST_CASE(
    "[steering.effects] KL is that of the steered from the unsteered distribution, over the "
    "windows' tokens") {
  auto model = planted_model();
  const int64_t window = 20;
  EffectMeter meter(model, kPairs, kNeutral, {.window = window, .max_neutral_tokens = 50});
  const auto tokens = model.tokenizer().encode(kNeutral);
  const auto distributions = [&] {
    std::vector<at::Tensor> all;
    for (int64_t first = 0; first < 50; first += window) {
      const std::array rows{std::vector(tokens.begin() + first,
                                        tokens.begin() + std::min<int64_t>(first + window, 50))};
      all.push_back(model.logits(vyx::models::make_batch(rows, vyx::models::Padding::right, 0))[0]
                        .to(at::kDouble)
                        .log_softmax(-1));
    }
    return at::cat(all);  // [tokens, vocabulary]
  };
  const at::Tensor before = distributions();
  const Steering steering = towards_capitals(model, 1);
  const at::Tensor after = distributions();
  const at::Tensor kl = (after.exp() * (after - before)).sum(1);  // [tokens]
  REQUIRE(kl.size(0) == 50);
  const Effect effect = meter.measure();
  CHECK(effect.kl_mean == doctest::Approx(kl.mean().item<double>()).epsilon(1e-3));
  CHECK(effect.kl_p95 == doctest::Approx(kl.quantile(0.95).item<double>()).epsilon(1e-3));
}

TEST_CASE(
    "[steering.effects] what stands before the hooked block is run once, and nothing measured "
    "changes") {
  auto model = planted_model();
  const int64_t window = 20;
  EffectMeter whole(model, kPairs, kNeutral, {.window = window}),
      part(model, kPairs, kNeutral, {.window = window, .first_block = 1});
  int early = 0;
  const auto counts =
      model.module().hook("model.layers.0", [&](const vyx::Site&, const c10::IValue&) {
        ++early;
        return std::nullopt;
      });
  for (const double coefficient : {1.5, -2.0, 0.0}) {
    CAPTURE(coefficient);
    const std::vector<WeightedVector> vectors = {
        {vector_at({"model.layers.1:output"}), coefficient, ""}};
    const Steering steering = steer(model, vectors, {});
    early = 0;
    const Effect effect = part.measure();
    CHECK(early == 0);
    const Effect expected = whole.measure();
    CHECK(effect.shift == expected.shift);
    CHECK(effect.kl_mean == expected.kl_mean);
    CHECK(effect.kl_p95 == expected.kl_p95);
  }
}

TEST_CASE("[steering.effects] an edit of generated tokens alone is measured too") {
  auto model = planted_model();
  EffectMeter meter(model, kPairs, kNeutral);
  const Steering steering = towards_capitals(model, 2, {.positions = vyx::Positions::generated});
  const Effect effect = meter.measure();
  CHECK(effect.shift > 0.05);
  CHECK(effect.kl_mean > 0.01);
  // A continuation of one token is predicted from the prompt, which is not edited.
  CHECK(meter.preference()[3] ==
        doctest::Approx(likelihood(model, "And", "B", true) - likelihood(model, "And", "b", true))
            .epsilon(1e-4));
}

TEST_CASE("[steering.effects] nothing to measure with is an error") {
  auto model = planted_model();
  CHECK(contains(error_of([&] { EffectMeter(model, {}, kNeutral); }), "no pairs of continuations"));
  CHECK(contains(error_of([&] { EffectMeter(model, kPairs, ""); }), "neutral text is empty"));
  CHECK(contains(error_of([&] {
                   NeutralMeter(model, {{1, 2}, {}});
                 }),
                 "a window of the neutral text is empty"));
  CHECK_THROWS_AS(EffectMeter(model, kPairs, kNeutral, {.window = 0}), vyx::UsageError);
  CHECK_THROWS_AS(EffectMeter(model, kPairs, kNeutral, {.max_neutral_tokens = 0}), vyx::UsageError);
}
