#include "apps/options/train_options.h"

#include <fmt/format.h>

#include <charconv>

#include "core/base/error.h"

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

}  // namespace

// The value goes onto the recipe when the rest is known.
template <class T, class Field>
po::typed_value<T>* RecipeOptions::overriding(Field field, const char* unit) {
  return po::value<T>()->value_name(unit)->notifier([this, field](const T& value) {
    overrides_.push_back([field, value](sae::TrainOptions& options) { field(options) = value; });
  });
}

RecipeOptions::RecipeOptions(Driver& driver) {
  using Options = sae::TrainOptions;
  driver.options()("architecture,a",
                   po::value(&architecture_)->default_value(architecture_)->value_name("NAME"),
                   "relu, gated, topk, batch-topk or jump-relu")(
      "latents", po::value(&recipe_.latents)->required()->value_name("N"),
      "size of the dictionary")("k",
                                overriding<int64_t>(
                                    [](Options & o) -> auto& { return o.autoencoder.k; }, "N"),
                                "topk, batch-topk: latents a token; 32")(
      "prefixes", po::value(&prefixes_)->value_name("N,…"),
      "batch-topk: Matryoshka's numbers of latents that reconstruct on their own")(
      "tokens", po::value<uint64_t>()->value_name("N")->notifier([this](uint64_t tokens) {
        tokens_ = tokens;
      }),
      "to train on; one pass over the activations if neither this nor --steps is given")(
      "steps",
      po::value<uint64_t>()->value_name("N")->notifier([this](uint64_t steps) { steps_ = steps; }),
      "instead of --tokens")(
      "batch", po::value(&recipe_.batch)->default_value(recipe_.batch)->value_name("N"),
      "tokens a step");
  driver.options()(
      "lr",
      overriding<double>(
          [](Options & o) -> auto& { return o.learning_rate; }, "X"),
      "learning rate; as this and all below: the architecture's published recipe if not given")(
      "lr-warmup",
      overriding<uint64_t>(
          [](Options & o) -> auto& { return o.warmup_steps; }, "STEPS"),
      "while the learning rate rises from 0")(
      "lr-decay",
      overriding<uint64_t>(
          [](Options & o) -> auto& { return o.decay_steps; }, "STEPS"),
      "at the end, while it falls to 0")(
      "clip",
      overriding<double>(
          [](Options & o) -> auto& { return o.adam.clip_norm; }, "X"),
      "norm of the gradient at most; 0: any")(
      "sparsity",
      overriding<double>(
          [](Options & o) -> auto& { return o.objective.sparsity; }, "X"),
      "relu, gated, jump-relu: λ")(
      "sparsity-warmup",
      overriding<uint64_t>(
          [](Options & o) -> auto& { return o.sparsity_warmup_steps; }, "STEPS"),
      "while λ rises from 0")(
      "sparsity-form",
      po::value(&sparsity_form_)->default_value(sparsity_form_)->value_name("NAME"),
      "jump-relu: l0, l0-target or tanh")(
      "l0-target",
      overriding<double>(
          [](Options & o) -> auto& { return o.objective.l0_target; }, "X"),
      "of --sparsity-form l0-target")(
      "bandwidth",
      overriding<double>(
          [](Options & o) -> auto& { return o.objective.bandwidth; }, "X"),
      "jump-relu: of the straight-through estimator")(
      "auxiliary",
      overriding<double>(
          [](Options & o) -> auto& { return o.objective.auxiliary; }, "X"),
      "topk, batch-topk: weight of AuxK; 0: none")(
      "auxiliary-k",
      overriding<int64_t>(
          [](Options & o) -> auto& { return o.objective.auxiliary_k; }, "N"),
      "its k; 0: half the width")("dead-after",
                                  overriding<uint64_t>(
                                      [](Options & o) -> auto& { return o.dead_after; }, "TOKENS"),
                                  "without firing, when a latent is dead")(
      "resample-every",
      overriding<uint64_t>(
          [](Options & o) -> auto& { return o.resample_every; }, "STEPS"),
      "begin dead latents anew; 0: never")(
      "skip", po::bool_switch()->notifier([this](bool on) {
        overrides_.push_back([on](Options& o) { o.initialize.skip = on; });
      }),
      "a transcoder with a linear connection from x to its output")(
      "threshold-decay",
      overriding<double>(
          [](Options & o) -> auto& { return o.threshold_decay; }, "X"),
      "batch-topk: of the moving average that becomes the threshold")(
      "normalization",
      po::value<std::string>()->value_name("NAME")->notifier([this](const std::string& name) {
        overrides_.push_back([value = sae::normalization_from_name(name)](Options& o) {
          o.autoencoder.normalization = value;
        });
      }),
      "of activations: scale (to a mean norm of √width; folded into the weights at the end), "
      "token-norm, layer-norm or none")("bf16", po::bool_switch()->notifier([this](bool on) {
    overrides_.push_back([on](Options& o) { o.objective.bfloat16 = on; });
  }),
                                        "the encoder's products in bfloat16")(
      "log-every",
      overriding<uint64_t>(
          [](Options & o) -> auto& { return o.log_every; }, "STEPS"),
      "a line of metrics.jsonl; 10")(
      "checkpoint-every",
      overriding<uint64_t>(
          [](Options & o) -> auto& { return o.checkpoint_every; }, "STEPS"),
      "500");
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
  if (!prefixes_.empty()) {
    if (input.architecture != sae::Architecture::batch_topk)
      throw UsageError(
          fmt::format("--prefixes: found architecture {}, expected batch-topk", architecture_));
    options.autoencoder.prefixes = parse_prefixes(prefixes_, input.latents);
  }
  sae::validate(options);
  return options;
}

}  // namespace vyx::apps
