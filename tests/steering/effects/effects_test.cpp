#include "tests/torch_support.h"

#include "steering/effects/effects.h"

#include <algorithm>
#include <array>
#include <optional>

#include "core/edits/attached_edit.h"
#include "core/hooks/activation.h"
#include "models/generation/generate.h"
#include "models/language_model/encode.h"
#include "steering/edits/steer.h"
#include "steering/effects/choices.h"
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
      const auto& [prompt, positive, negative, place] = kPairs[i];
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

TEST_CASE("[steering.effects] what is measured has the tokens that generation sends") {
  for (const bool add_bos : {false, true}) {
    auto model = tiny_model(planted_gguf().set("tokenizer.ggml.add_bos_token", add_bos));
    CAPTURE(add_bos);
    CHECK(vyx::models::begin_token(model) == (add_bos ? 1 : -1));
    std::vector<at::Tensor> seen;  // [rows, seq] each
    const auto handle = model.module().hook("model.embed_tokens:input",
                                            [&](const vyx::Site&, const c10::IValue& value) {
                                              seen.push_back(vyx::activation_of(value)->clone());
                                              return std::nullopt;
                                            });
    for (const bool chat : {false, true}) {
      CAPTURE(chat);
      seen.clear();
      vyx::models::generate(model, "How was it?", {.max_tokens = 1}, chat);
      const at::Tensor sent = seen.at(0)[0];  // [seq]
      CHECK((sent[0].item<int64_t>() == 1) ==
            (add_bos || chat));  // 1: <|im_start|>, the begin token

      seen.clear();
      const std::vector<ContinuationPair> pairs = {{"How was it?", " GOOD", " bad"}};
      PreferenceMeter(model, pairs, chat).measure();
      CHECK(at::equal(seen.at(0)[0], sent));
      seen.clear();
      const std::vector<ChoiceItem> questions = {{"How was it?", {"good", "bad"}, 0}};
      ChoiceMeter(model, questions, chat).right();
      CHECK(at::equal(seen.at(0)[0], sent));
      if (chat) continue;

      // A window is a text of its own: what a prompt of this text is.
      seen.clear();
      const auto windows = neutral_windows(model, "How was it?", 20, 20);
      NeutralMeter meter(model, windows);
      CHECK(at::equal(at::cat(seen, 1)[0], sent));  // the begin token is run first
      CHECK(meter.tokens() == 11);
      seen.clear();
      meter.measure(vyx::models::encode_text(model, "So. "));
      const at::Tensor read = at::cat(seen, 1);
      seen.clear();
      vyx::models::generate(model, "So. How was it?", {.max_tokens = 1});
      CHECK(at::equal(read, seen.at(0)));
    }
  }
}

TEST_CASE(
    "[steering.effects] KL is that of the steered from the unsteered distribution, over the "
    "windows' tokens") {
  const int64_t window = 20;
  for (const bool add_bos : {false, true}) {
    CAPTURE(add_bos);
    auto model = tiny_model(planted_gguf().set("tokenizer.ggml.add_bos_token", add_bos));
    EffectMeter meter(model, kPairs, kNeutral, {.window = window, .max_neutral_tokens = 50});
    const auto tokens = model.tokenizer().encode(kNeutral);
    const auto distributions = [&] {
      std::vector<at::Tensor> all;
      for (int64_t first = 0; first < 50; first += window) {
        std::array rows{std::vector(tokens.begin() + first,
                                    tokens.begin() + std::min<int64_t>(first + window, 50))};
        if (add_bos) rows[0].insert(rows[0].begin(), model.config().tokens.bos);
        all.push_back(model.logits(vyx::models::make_batch(rows, vyx::models::Padding::right, 0))[0]
                          .slice(0, add_bos ? 1 : 0)  // the begin token is not measured
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

TEST_CASE(
    "[steering.effects] prompts that begin alike, and continuations of one token, are measured as "
    "each alone") {
  auto model = planted_model();
  const std::string beginning = "You write of the sea and of ships. ";
  std::vector<ContinuationPair> pairs;
  for (const ContinuationPair& pair : kPairs)
    pairs.push_back({beginning + pair.prompt, pair.positive, pair.negative});
  std::vector<ContinuationPair> short_pairs = {{beginning + "And", "B", "b"},
                                               {beginning + "Or so", "C", "c"}};
  for (const auto& some : {pairs, short_pairs}) {
    for (const int64_t first_block : {0, 1}) {
      PreferenceMeter meter(model, some, false, first_block);
      const std::vector<WeightedVector> vectors = {{vector_at({"model.layers.1:output"}), 1.5, ""}};
      const Steering steering = steer(model, vectors, {});
      for (int round = 0; round < 2; ++round) {  // the second one begins at the block
        const std::vector<double> preference = meter.measure();
        for (size_t i = 0; i < some.size(); ++i) {
          CAPTURE(i);
          CHECK(preference[i] ==
                doctest::Approx(likelihood(model, some[i].prompt, some[i].positive, false) -
                                likelihood(model, some[i].prompt, some[i].negative, false))
                    .epsilon(1e-4));
        }
      }
    }
  }
  CHECK(PreferenceMeter(model, pairs, false).single_token_pairs() == 1);
  CHECK(PreferenceMeter(model, short_pairs, false).single_token_pairs() == 2);
}

TEST_CASE("[steering.effects] edits that are measured side by side give what each gives alone") {
  auto model = planted_model();
  const vyx::Site site = vyx::Site::parse("model.layers.1:output");
  std::vector<vyx::Edit> edits;
  for (int i = 0; i < 45; ++i)  // more than one forward holds
    edits.push_back(i % 3 == 0
                        ? vyx::Edit({vyx::Term::clamp(planted_direction(), 0.2 * i)})
                        : vyx::Edit({vyx::Term::add(planted_direction() * (0.1 * i - 1.5))}));
  std::vector<const vyx::Edit*> pointers = {nullptr};
  for (const vyx::Edit& edit : edits) pointers.push_back(&edit);
  const std::vector<ChoiceItem> questions = {{"Which?", {" A", " bee", "C c"}, 0},
                                             {"And now, which of them?", {"yes", "NO"}, 1}};
  const auto windows = neutral_windows(model, kNeutral, 20, 50);
  for (const int64_t first_block : {0, 1}) {
    CAPTURE(first_block);
    PreferenceMeter preferences(model, kPairs, true, first_block);
    NeutralMeter neutral(model, windows, first_block),
        forgetful(model, windows, first_block, /*kept_bytes=*/0);
    ChoiceMeter choices(model, questions, true, first_block);
    for (const size_t count : {size_t{3}, pointers.size()}) {
      CAPTURE(count);
      const std::span<const vyx::Edit* const> some = std::span(pointers).first(count);
      const auto found = preferences.measure(site, some);
      const auto effects = neutral.measure(site, some), anew = forgetful.measure(site, some);
      const auto right = choices.right(site, some);
      REQUIRE(found.size() == count);
      REQUIRE(effects.size() == count);
      CHECK(found == preferences.measure(site, some));  // the same batches: the same numbers
      for (size_t i = 0; i < count; ++i) {
        CAPTURE(i);
        std::optional<vyx::AttachedEdit> alone;
        if (some[i] != nullptr) alone.emplace(vyx::attach(model.module(), site, *some[i]));
        const std::vector<double> preference = preferences.measure();
        for (size_t pair = 0; pair < preference.size(); ++pair)
          CHECK(found[i][pair] == doctest::Approx(preference[pair]).epsilon(1e-5));
        const NeutralEffect effect = neutral.measure();
        for (const NeutralEffect* other : {&effects[i], &anew[i]}) {
          CHECK(at::allclose(other->kl, effect.kl, 1e-4, 1e-6));
          CHECK(at::allclose(other->reverse_kl, effect.reverse_kl, 1e-4, 1e-6));
          CHECK(at::allclose(other->loss_rise, effect.loss_rise, 1e-4, 1e-6));
        }
        CHECK(right[i] == choices.right());
      }
    }
    CHECK(preferences.measure(site, {}).empty());
    CHECK(neutral.measure(site, {}).empty());
  }
}

TEST_CASE("[steering.effects] what is not finite while steering is an error, not a number") {
  auto model = planted_model();
  PreferenceMeter preferences(model, kPairs, true);
  NeutralMeter neutral(model, neutral_windows(model, kNeutral, 20, 50));
  const auto spoilt = model.module().hook(
      "model.layers.1",
      [](const vyx::Site&, const c10::IValue& value) -> std::optional<c10::IValue> {
        return value.toTensor() / 0;
      });
  CHECK(contains(error_of([&] { preferences.measure(); }), "not finite"));
  CHECK(contains(error_of([&] { neutral.measure(); }), "not finite"));
  CHECK(contains(error_of([&] { NeutralMeter(model, neutral_windows(model, kNeutral, 20, 50)); }),
                 "unsteered model"));
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

TEST_CASE("[steering.effects] a pair beyond the context is refused by its place in the file") {
  LanguageModel model = planted_model();  // of 512 tokens, which are bytes
  const std::string long_text(600, 'x');
  const auto error = [&](ContinuationPair pair) {
    const std::vector<ContinuationPair> pairs = {kPairs[0], std::move(pair)};
    return error_of([&] { PreferenceMeter(model, pairs, /*chat=*/false); });
  };
  CHECK(contains(error({"How?", "Well.", long_text, "heldout.jsonl:7"}),
                 "heldout.jsonl:7: found 604 tokens, expected at most the context length of 512"));
  CHECK(contains(error({long_text, "Well.", "Badly."}), "pair 2: found 606 tokens"));
}
