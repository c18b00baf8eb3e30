#include "apps/options/train_options.h"

#include <fmt/format.h>

#include <charconv>
#include <type_traits>
#include <utility>

#include "core/base/error.h"
#include "sae/autoencoder/architecture.h"

namespace vyx::apps {
namespace {

constexpr uint64_t kMaxTokens = uint64_t{1} << 53;

// "256,1024" and 4096 latents → 256, 1024, 4096.
std::vector<int64_t> parse_prefixes(const std::string& text, int64_t latents) {
  std::vector<int64_t> prefixes;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at <= end) {
    int64_t number = 0;
    const auto [next, error] = std::from_chars(at, end, number);
    if (error != std::errc() || (next != end && *next != ',') ||
        number <= (prefixes.empty() ? 0 : prefixes.back()) || number > latents)
      throw UsageError(
          fmt::format("--prefixes: found '{}', expected rising numbers from 1 to the {} latents, "
                      "such as 256,1024",
                      text, latents));
    prefixes.push_back(number);
    at = next + 1;
  }
  if (prefixes.back() != latents) prefixes.push_back(latents);
  return prefixes;
}

// A field of the run's options, or of a part of them.
template <class T>
auto field(T sae::TrainOptions::*member) {
  return [=](sae::TrainOptions& options) -> T& { return options.*member; };
}
template <class Part, class T>
auto field(Part sae::TrainOptions::*part, T Part::*member) {
  return [=](sae::TrainOptions& options) -> T& { return options.*part.*member; };
}

}  // namespace

// What is given goes onto the recipe when the rest is known.
template <class Field>
void RecipeOptions::overriding(OptionTable& option, const char* name, Field field, const char* unit,
                               const std::string& help) {
  using T = std::remove_reference_t<decltype(field(std::declval<sae::TrainOptions&>()))>;
  const auto take = [this, field, name](const T& value) {
    given_.emplace_back(name);
    overrides_.push_back([field, value](sae::TrainOptions& options) { field(options) = value; });
  };
  if constexpr (std::is_same_v<T, bool>)
    option.on(
        name, [take] { take(true); }, help);
  else
    option.on<T>(name, take, unit, help);
}

RecipeOptions::RecipeOptions(Driver& driver) {
  using Train = sae::TrainOptions;
  using Config = sae::AutoencoderConfig;
  using Objective = sae::ObjectiveOptions;
  using Traits = sae::ArchitectureTraits;
  OptionTable& option = driver.options();
  const auto recipe = [&](const char* name, auto field, const char* unit, const std::string& help) {
    overriding(option, name, field, unit, help);
  };
  const auto k = field(&Train::autoencoder, &Config::k);
  const auto clip = field(&Train::adam, &sae::AdamOptions::clip_norm);
  const auto skip = field(&Train::initialize, &sae::InitializeOptions::skip);
  const auto objective = [](auto member) { return field(&Train::objective, member); };

  const std::string with_k = sae::architecture_names(&Traits::has_k);
  const std::string with_penalty = sae::architecture_names(&Traits::has_penalty);
  const std::string with_thresholds = sae::architecture_names(&Traits::has_thresholds);

  option("architecture,a", architecture_, "NAME", "one of " + sae::architecture_names());
  option("latents", recipe_.latents, "N", "size of the dictionary", kRequired);
  recipe("k", k, "N", with_k + ": latents per token; 32 if not given");
  option.on<std::string>(
      "prefixes",
      [this](const std::string& text) {
        given_.emplace_back("prefixes");
        prefixes_ = text;
      },
      "N,…",
      sae::architecture_names(&Traits::has_prefixes) +
          ": Matryoshka's numbers of latents, each of which reconstructs on its own");
  option("tokens,n", tokens_, "N",
         "to train on; one pass over the activations if neither this nor --steps is given");
  option("steps", steps_, "N", "instead of --tokens");
  option("batch", recipe_.batch, "N", "tokens per step");

  recipe("lr", field(&Train::learning_rate), "X",
         "learning rate; this and all below are as published for the architecture if not given");
  recipe("lr-warmup", field(&Train::warmup_steps), "STEPS", "the learning rate rises from 0");
  recipe("lr-decay", field(&Train::decay_steps), "STEPS", "at the end it falls to 0");
  recipe("clip", clip, "X", "largest norm of the gradient; 0: any");
  recipe("sparsity", objective(&Objective::sparsity), "X", with_penalty + ": λ");
  recipe("sparsity-warmup", field(&Train::sparsity_warmup_steps), "STEPS", "λ rises from 0");
  option.on<std::string>(
      "sparsity-form",
      [this](const std::string& name) {
        given_.emplace_back("sparsity-form");
        sparsity_form_ = name;
      },
      "NAME", with_thresholds + ": l0 (if not given), l0-target or tanh");
  recipe("l0-target", objective(&Objective::l0_target), "X", "of --sparsity-form l0-target");
  recipe("bandwidth", objective(&Objective::bandwidth), "X",
         with_thresholds + ": of the straight-through estimator");
  recipe("auxiliary", objective(&Objective::auxiliary), "X", with_k + ": weight of AuxK; 0: none");
  recipe("auxiliary-k", objective(&Objective::auxiliary_k), "N", "its k; 0: half the width");
  recipe("dead-after", field(&Train::dead_after), "TOKENS",
         "a latent that has not fired for so many tokens is dead");
  recipe("resample-every", field(&Train::resample_every), "STEPS",
         "start dead latents again; 0: never");
  recipe("skip", skip, "", "a transcoder with a linear connection from x to its output");
  recipe("threshold-decay", field(&Train::threshold_decay), "X",
         sae::architecture_names(&Traits::has_batch_threshold) +
             ": of the moving average that becomes the threshold");
  option.on<std::string>(
      "normalization",
      [this](const std::string& name) {
        overrides_.push_back([value = sae::normalization_from_name(name)](Train& options) {
          options.autoencoder.normalization = value;
        });
      },
      "NAME",
      "of activations: scale (to a mean norm of √width; folded into the weights at the end), "
      "token-norm, layer-norm or none");
  recipe("bf16", objective(&Objective::bfloat16), "", "the encoder's products in bfloat16");
  recipe("log-every", field(&Train::log_every), "STEPS",
         "from one line of metrics.jsonl to the next; 10 if not given");
  recipe("checkpoint-every", field(&Train::checkpoint_every), "STEPS",
         "from one checkpoint to the next; 500 if not given");
}

sae::TrainOptions RecipeOptions::options(const sae::ActivationSource& source, uint64_t seed) const {
  return options(source.width(), has_length() ? 0 : source.rows(),
                 seed);  // a stream has to count its rows
}

sae::TrainOptions RecipeOptions::options(int64_t width, uint64_t rows, uint64_t seed) const {
  sae::RecipeInput input = recipe_;
  input.architecture = sae::architecture_from_name(architecture_);
  input.jump_relu = sae::jump_relu_sparsity_from_name(sparsity_form_);
  input.width = width;
  if (input.latents <= 0)
    throw UsageError(fmt::format("--latents: found {}, expected at least 1", input.latents));
  if (input.batch <= 0 || input.batch > 1 << 24)
    throw UsageError(fmt::format("--batch: found {}, expected 1 to 2^24 tokens", input.batch));
  if (tokens_ && steps_) throw UsageError("expected one of --tokens and --steps");
  if (tokens_ && (*tokens_ == 0 || *tokens_ > kMaxTokens))
    throw UsageError(fmt::format("--tokens: found {}, expected 1 to 2^53", *tokens_));
  const uint64_t max_steps = kMaxTokens / static_cast<uint64_t>(input.batch);
  if (steps_ && (*steps_ == 0 || *steps_ > max_steps))
    throw UsageError(fmt::format("--steps: found {}, expected 1 to {}", *steps_, max_steps));
  input.tokens = tokens_ ? *tokens_ : steps_ ? *steps_ * static_cast<uint64_t>(input.batch) : rows;

  sae::TrainOptions options = sae::recipe(input);
  options.seed = seed;
  for (const auto& apply : overrides_) apply(options);
  for (const std::string& name : given_)
    if (const std::string needed = sae::needed_for(name, options); !needed.empty())
      throw UsageError(fmt::format(
          "--{} has no effect with architecture {}{}; expected {}", name, architecture_,
          sae::traits_of(input.architecture).has_thresholds ? " and sparsity form " + sparsity_form_
                                                            : "",
          needed));
  if (!prefixes_.empty()) options.autoencoder.prefixes = parse_prefixes(prefixes_, input.latents);
  sae::validate(options);
  return options;
}

}  // namespace vyx::apps
