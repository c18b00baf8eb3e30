#include "sae/training/recipe.h"

#include <cmath>
#include <limits>

#include "tests/sae/random_autoencoder.h"
#include "tests/torch_support.h"

using namespace vyx;
using namespace vyx::sae;
using vyx::test::contains;
using vyx::test::error_of;

namespace {

constexpr uint64_t kTokens = 4'000'000'000;

TrainOptions recipe_of(Architecture architecture, JumpReluSparsity form = JumpReluSparsity::l0) {
  return recipe({.architecture = architecture,
                 .jump_relu = form,
                 .width = 400,
                 .latents = 4096,
                 .tokens = kTokens,
                 .batch = 4000});
}

}  // namespace

TEST_CASE("[sae.recipe] the published numbers of each architecture") {
  const TrainOptions relu = recipe_of(Architecture::relu);
  CHECK(relu.steps == 1'000'000);
  CHECK(relu.objective.sparsity == 5);
  CHECK(relu.sparsity_warmup_steps == 50'000);
  CHECK(relu.learning_rate == 5e-5);
  CHECK(relu.warmup_steps == 0);
  CHECK(relu.decay_steps == 200'000);
  CHECK(relu.adam.clip_norm == 1);
  CHECK_FALSE(relu.adam.unit_norm_decoder);
  CHECK(relu.initialize.decoder_norm == 0.1);

  for (const auto architecture : {Architecture::topk, Architecture::batch_topk}) {
    const TrainOptions topk = recipe_of(architecture);
    CHECK(topk.autoencoder.k == 32);
    CHECK(topk.learning_rate == doctest::Approx(4e-4));  // 2e-4 at 16,384 latents
    CHECK(topk.objective.auxiliary == 1.0 / 32);
    CHECK(topk.dead_after == 10'000'000);
    CHECK(topk.adam.unit_norm_decoder);
    CHECK(topk.initialize.decoder_norm == 1);
    CHECK(topk.median_bias);
  }
  const TrainOptions jump = recipe_of(Architecture::jump_relu);
  CHECK(jump.learning_rate == 7e-5);
  CHECK(jump.objective.sparsity == doctest::Approx(6e-4 * 400));  // for E‖x‖² = 1, times the width
  CHECK(jump.objective.bandwidth == 0.05);
  CHECK(jump.initialize.threshold == 0.05);
  CHECK(jump.sparsity_warmup_steps == 10'000);
  const TrainOptions anthropic = recipe_of(Architecture::jump_relu, JumpReluSparsity::tanh);
  CHECK(anthropic.objective.bandwidth == 2);
  CHECK(anthropic.sparsity_warmup_steps == anthropic.steps);
  CHECK(recipe_of(Architecture::gated).adam.beta1 == 0);
}

TEST_CASE("[sae.recipe] every recipe is valid, for short runs too, and scales its inputs") {
  for (const auto architecture : vyx::test::all_architectures())
    for (const uint64_t tokens : {uint64_t{1}, uint64_t{5000}, uint64_t{1'000'000}, kTokens}) {
      const TrainOptions options =
          recipe({.architecture = architecture, .width = 8, .latents = 64, .tokens = tokens});
      CHECK_NOTHROW(validate(options));
      CHECK(options.autoencoder.normalization == Normalization::scale);
      CHECK(options.warmup_steps <= options.steps / 20);
      CHECK(options.median_bias);
    }
}

TEST_CASE(
    "[sae.recipe] the scale is √d / E‖x‖, and of a mean beyond the deviation what is left counts") {
  const auto scale = [](double center, double deviation) {
    return scale_of({.width = 16,
                     .mean_norm = std::hypot(center, deviation),
                     .center = center,
                     .deviation = deviation});
  };
  CHECK(scale(0, 2) == doctest::Approx(4 / 2.0));
  CHECK(scale(2, 2) == doctest::Approx(4 / std::sqrt(8)));
  CHECK(scale(200, 2) == doctest::Approx(4 / std::sqrt(8)));  // as if the mean were 2
  CHECK(scale(3, 0) == doctest::Approx(4 / 3.0));             // rows that are all the same
}

TEST_CASE("[sae.recipe] θ may go as far in a short run as in a published one") {
  TrainOptions options = recipe_of(Architecture::jump_relu);
  CHECK(threshold_rate(options) == 1);  // 1,000,000 steps of 7e-5
  options.steps = 1000;
  CHECK(threshold_rate(options) * options.learning_rate * 1000 == doctest::Approx(8));
}

TEST_CASE("[sae.recipe] an option that a run would not read says what it needs") {
  const auto needed = [](const char* name, Architecture architecture,
                         JumpReluSparsity form = JumpReluSparsity::l0) {
    return needed_for(name, recipe_of(architecture, form));
  };
  CHECK(needed("k", Architecture::relu) == "--architecture topk, batch-topk");
  CHECK(needed("sparsity", Architecture::topk) == "--architecture relu, gated, jump-relu");
  CHECK(needed("l0-target", Architecture::relu) == "--architecture jump-relu");
  CHECK(needed("l0-target", Architecture::jump_relu) == "--sparsity-form l0-target");
  CHECK(needed("l0-target", Architecture::jump_relu, JumpReluSparsity::l0_target).empty());
  CHECK(needed("lr", Architecture::relu).empty());
  // What a run reads is in its record, and nothing else.
  for (const auto architecture : vyx::test::all_architectures())
    for (const auto form : {JumpReluSparsity::l0, JumpReluSparsity::l0_target}) {
      const TrainOptions options = recipe_of(architecture, form);
      for (const ConditionalOption& option : conditional_options()) {
        INFO(name_of(architecture), " ", option.name);
        CHECK(to_json(options).contains(option.name) == needed_for(option.name, options).empty());
      }
    }
}

TEST_CASE("[sae.recipe] options that make no sense are named") {
  const auto error = [](auto&& spoil) {
    TrainOptions options = recipe_of(Architecture::topk);
    spoil(options);
    CHECK_THROWS_AS(validate(options), UsageError);
    return error_of([&] { validate(options); });
  };
  const double nan = std::nan(""), infinity = std::numeric_limits<double>::infinity();
  CHECK(contains(error([](auto& o) { o.steps = 0; }), "--steps: found 0"));
  CHECK(contains(error([](auto& o) { o.steps = static_cast<uint64_t>(-5); }), "--steps"));
  CHECK(contains(error([](auto& o) { o.batch = 0; }), "--batch: found 0"));
  CHECK(contains(error([](auto& o) { o.autoencoder.k = 4097; }),
                 "--k: found 4097, expected 1 to the 4096 latents"));
  CHECK(contains(error([](auto& o) { o.autoencoder.k = 0; }), "--k"));
  CHECK(contains(error([](auto& o) { o.autoencoder.latents = 0; }), "--latents"));
  CHECK(contains(error([&](auto& o) { o.learning_rate = nan; }), "--lr"));
  CHECK(contains(error([](auto& o) { o.learning_rate = 0; }), "--lr"));
  CHECK(contains(error([](auto& o) { o.warmup_steps = o.steps + 1; }), "--lr-warmup"));
  CHECK(contains(error([&](auto& o) { o.objective.auxiliary = infinity; }), "--auxiliary"));
  CHECK(contains(error([](auto& o) { o.dead_after = 0; }), "--dead-after"));
  CHECK(contains(error([](auto& o) { o.log_every = 0; }), "--log-every"));
}

TEST_CASE(
    "[sae.recipe] the learning rate rises, stays, and falls to almost nothing; λ rises and stays") {
  TrainOptions options;
  options.steps = 100;
  options.learning_rate = 2;
  options.warmup_steps = 10;
  options.decay_steps = 20;
  options.objective.sparsity = 3;
  options.sparsity_warmup_steps = 30;
  CHECK(learning_rate_at(options, 0) == doctest::Approx(0.2));
  CHECK(learning_rate_at(options, 9) == 2);
  CHECK(learning_rate_at(options, 80) == 2);
  CHECK(learning_rate_at(options, 81) == doctest::Approx(1.9));
  CHECK(learning_rate_at(options, 99) == doctest::Approx(0.1));
  CHECK(sparsity_at(options, 0) == doctest::Approx(0.1));
  CHECK(sparsity_at(options, 29) == 3);
  CHECK(sparsity_at(options, 99) == 3);
  options.warmup_steps = options.decay_steps = options.sparsity_warmup_steps = 0;
  CHECK(learning_rate_at(options, 0) == 2);
  CHECK(learning_rate_at(options, 99) == 2);
  CHECK(sparsity_at(options, 0) == 3);
}

TEST_CASE("[sae.recipe] what matters for resuming is in the record, by the names of the options") {
  TrainOptions options = recipe_of(Architecture::batch_topk);
  const Json before = to_json(options);
  options.seed = 1;
  options.autoencoder.k = 16;
  options.checkpoint_every = 7;  // does not matter
  const Json after = to_json(options);
  std::vector<std::string> changed;
  for (const auto& [key, value] : after.items())
    if (before[key] != value) changed.push_back(key);
  CHECK(changed == std::vector<std::string>{"k", "seed"});
}
