#include "sae/training/recipe.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "core/base/error.h"

namespace vyx::sae {
namespace {

constexpr uint64_t kMaxSteps = uint64_t{1} << 40;
constexpr uint64_t kDeadAfter = 10'000'000;  // tokens; Gao et al. 2024
constexpr double kThresholdReach = 8;        // of θ's logarithm, over a run

constexpr std::array<std::pair<JumpReluSparsity, std::string_view>, 3> kForms{
    {{JumpReluSparsity::l0, "l0"},
     {JumpReluSparsity::l0_target, "l0-target"},
     {JumpReluSparsity::tanh, "tanh"}}};

using Traits = ArchitectureTraits;
constexpr ConditionalOption kConditional[] = {
    {"k", &Traits::has_k},
    {"auxiliary", &Traits::has_k},
    {"auxiliary-k", &Traits::has_k},
    {"prefixes", &Traits::has_prefixes},
    {"threshold-decay", &Traits::has_batch_threshold},
    {"sparsity", &Traits::has_penalty},
    {"sparsity-warmup", &Traits::has_penalty},
    {"sparsity-form", &Traits::has_thresholds},
    {"bandwidth", &Traits::has_thresholds},
    {"l0-target", &Traits::has_thresholds, JumpReluSparsity::l0_target}};

void set_unit_norm_decoder(TrainOptions& options) {
  options.adam.unit_norm_decoder = true;
  options.initialize.decoder_norm = 1;
}

void set_relu(TrainOptions& options, uint64_t steps) {
  options.learning_rate = 5e-5;
  options.warmup_steps = 0;
  options.initialize.decoder_norm = 0.1;
  options.objective.sparsity = 5;
  options.sparsity_warmup_steps = steps / 20;
}

void set_gated(TrainOptions& options) {
  options.learning_rate = 3e-4;
  options.adam.beta1 = 0;
  options.objective.sparsity = 5;
  set_unit_norm_decoder(options);
}

void set_topk(TrainOptions& options, int64_t latents) {
  options.learning_rate = 2e-4 / std::sqrt(static_cast<double>(latents) / 16384);
  options.adam.epsilon = 6.25e-10;
  options.objective.auxiliary = 1.0 / 32;
  set_unit_norm_decoder(options);
}

// The published numbers are for E‖x‖² = 1; ours for E‖x‖ = √width.
void set_jump_relu(TrainOptions& options, JumpReluSparsity form, int64_t width) {
  options.objective.jump_relu = form;
  if (form == JumpReluSparsity::tanh) {
    options.learning_rate = 2e-4;
    options.objective.sparsity = 10;
    options.sparsity_warmup_steps = options.steps;
    options.objective.bandwidth = 2;
    options.initialize.threshold = 0.1;
    return;
  }
  options.learning_rate = 7e-5;
  options.adam.beta1 = 0;
  options.objective.sparsity =
      (form == JumpReluSparsity::l0 ? 6e-4 : 3.0) * static_cast<double>(width);
  options.objective.bandwidth = 0.05;
  options.initialize.threshold = 0.05;
  set_unit_norm_decoder(options);
}

// A ramp over `length` steps: 1/length, 2/length, … 1.
double rise(uint64_t step, uint64_t length) {
  return step < length ? static_cast<double>(step + 1) / static_cast<double>(length) : 1;
}

}  // namespace

std::string_view name_of(JumpReluSparsity form) {
  return std::find_if(kForms.begin(), kForms.end(),
                      [&](const auto& entry) { return entry.first == form; })
      ->second;
}

JumpReluSparsity jump_relu_sparsity_from_name(std::string_view name) {
  for (const auto& [form, known] : kForms)
    if (known == name) return form;
  throw UsageError(
      fmt::format("--sparsity-form: found '{}', expected l0, l0-target or tanh", name));
}

TrainOptions recipe(const RecipeInput& input) {
  TrainOptions options;
  options.autoencoder.architecture = input.architecture;
  options.autoencoder.normalization = Normalization::scale;
  options.autoencoder.latents = input.latents;
  options.median_bias = true;
  options.batch = input.batch;
  const auto batch = static_cast<uint64_t>(std::max<int64_t>(1, input.batch));
  options.steps = (input.tokens + batch - 1) / batch;
  options.warmup_steps = std::min<uint64_t>(1000, options.steps / 20);
  options.decay_steps = options.steps / 5;
  options.sparsity_warmup_steps = std::min<uint64_t>(10'000, options.steps / 20);
  options.dead_after = std::clamp<uint64_t>(input.tokens / 10, 1, kDeadAfter);
  switch (input.architecture) {
    case Architecture::relu:
      set_relu(options, options.steps);
      break;
    case Architecture::gated:
      set_gated(options);
      break;
    case Architecture::topk:
    case Architecture::batch_topk:
      set_topk(options, input.latents);
      break;
    case Architecture::jump_relu:
      set_jump_relu(options, input.jump_relu, input.width);
      break;
  }
  return options;
}

void validate(const TrainOptions& options) {
  const auto require = [](bool good, std::string_view option, auto found,
                          std::string_view expected) {
    if (!good)
      throw UsageError(fmt::format("--{}: found {}, expected {}", option, found, expected));
  };
  const auto not_negative = [](double value) { return std::isfinite(value) && value >= 0; };
  const AutoencoderConfig& config = options.autoencoder;
  require(config.latents > 0, "latents", config.latents, "at least 1");
  if (traits_of(config.architecture).has_k)
    require(config.k > 0 && config.k <= config.latents, "k", config.k,
            fmt::format("1 to the {} latents", config.latents));
  const bool one_site = config.target_sites.empty() && config.sites.size() <= 1;
  require(one_site || !is_per_token(config.normalization), "normalization",
          name_of(config.normalization),
          "none or scale for a transcoder or crosscoder, whose sides differ in size");
  require(options.batch > 0 && options.batch <= 1 << 24, "batch", options.batch,
          "1 to 2^24 tokens");
  require(options.steps > 0 && options.steps <= kMaxSteps, "steps", options.steps,
          "1 to 2^40 (of --batch tokens each)");
  require(std::isfinite(options.learning_rate) && options.learning_rate > 0, "lr",
          options.learning_rate, "a positive number");
  require(options.warmup_steps <= options.steps, "lr-warmup", options.warmup_steps,
          fmt::format("at most the {} steps", options.steps));
  require(options.decay_steps <= options.steps, "lr-decay", options.decay_steps,
          fmt::format("at most the {} steps", options.steps));
  require(options.sparsity_warmup_steps <= options.steps, "sparsity-warmup",
          options.sparsity_warmup_steps, fmt::format("at most the {} steps", options.steps));
  require(not_negative(options.objective.sparsity), "sparsity", options.objective.sparsity,
          "0 or a positive number");
  require(not_negative(options.objective.auxiliary), "auxiliary", options.objective.auxiliary,
          "0 or a positive number");
  require(options.objective.auxiliary_k >= 0 && options.objective.auxiliary_k <= config.latents,
          "auxiliary-k", options.objective.auxiliary_k,
          fmt::format("0 (half the width) to the {} latents", config.latents));
  require(options.objective.l0_target > 0 && std::isfinite(options.objective.l0_target),
          "l0-target", options.objective.l0_target, "a positive number");
  require(options.objective.bandwidth > 0 && std::isfinite(options.objective.bandwidth),
          "bandwidth", options.objective.bandwidth, "a positive number");
  require(not_negative(options.adam.clip_norm), "clip", options.adam.clip_norm,
          "0 (no clipping) or a positive number");
  require(options.dead_after > 0 && options.dead_after <= INT64_MAX, "dead-after",
          options.dead_after, "at least 1 token");
  require(options.threshold_decay >= 0 && options.threshold_decay < 1, "threshold-decay",
          options.threshold_decay, "0 to below 1");
  require(options.log_every > 0, "log-every", options.log_every, "at least 1 step");
  require(options.checkpoint_every > 0, "checkpoint-every", options.checkpoint_every,
          "at least 1 step");
}

std::span<const ConditionalOption> conditional_options() {
  return kConditional;
}

std::string needed_for(std::string_view name, const TrainOptions& options) {
  for (const ConditionalOption& each : kConditional) {
    if (each.name != name) continue;
    if (!(traits_of(options.autoencoder.architecture).*each.trait))
      return fmt::format("--architecture {}", architecture_names(each.trait));
    if (each.form && *each.form != options.objective.jump_relu)
      return fmt::format("--sparsity-form {}", name_of(*each.form));
  }
  return "";
}

Json to_json(const TrainOptions& options) {
  const AutoencoderConfig& config = options.autoencoder;
  const ObjectiveOptions& objective = options.objective;
  Json json{{"architecture", name_of(config.architecture)},
            {"latents", config.latents},
            {"normalization", name_of(config.normalization)},
            {"steps", options.steps},
            {"batch", options.batch},
            {"seed", options.seed},
            {"lr", options.learning_rate},
            {"lr-warmup", options.warmup_steps},
            {"lr-decay", options.decay_steps},
            {"clip", options.adam.clip_norm},
            {"adam-beta1", options.adam.beta1},
            {"adam-beta2", options.adam.beta2},
            {"adam-epsilon", options.adam.epsilon},
            {"unit-norm-decoder", options.adam.unit_norm_decoder},
            {"tied", options.initialize.tied},
            {"decoder-norm", options.initialize.decoder_norm},
            {"skip", options.initialize.skip},
            {"median-bias", options.median_bias},
            {"dead-after", options.dead_after},
            {"resample-every", options.resample_every},
            {"bf16", objective.bfloat16},
            {"log-every", options.log_every}};
  const ArchitectureTraits& traits = traits_of(config.architecture);
  if (traits.has_k) {
    json["k"] = config.k;
    json["auxiliary"] = objective.auxiliary;
    json["auxiliary-k"] = objective.auxiliary_k;
  }
  if (traits.has_penalty) {
    json["sparsity"] = objective.sparsity;
    json["sparsity-warmup"] = options.sparsity_warmup_steps;
  }
  if (traits.has_prefixes) json["prefixes"] = config.prefixes;
  if (traits.has_batch_threshold) json["threshold-decay"] = options.threshold_decay;
  if (traits.has_thresholds) {
    json["sparsity-form"] = name_of(objective.jump_relu);
    json["bandwidth"] = objective.bandwidth;
    json["initial-threshold"] = options.initialize.threshold;
    if (objective.jump_relu == JumpReluSparsity::l0_target) json["l0-target"] = objective.l0_target;
    if (objective.jump_relu == JumpReluSparsity::tanh) {
      json["tanh-scale"] = objective.tanh_scale;
      json["pre-activation"] = objective.pre_activation;
    }
  }
  return json;
}

bool is_option(std::string_view key) {
  constexpr std::array<std::string_view, 10> kOfRecipe{
      "adam-beta1",  "adam-beta2", "adam-epsilon",   "decoder-norm", "initial-threshold",
      "median-bias", "tanh-scale", "pre-activation", "tied",         "unit-norm-decoder"};
  return std::find(kOfRecipe.begin(), kOfRecipe.end(), key) == kOfRecipe.end();
}

double scale_of(const SiteNorms& norms) {
  constexpr double kConstant = 1e-4;  // of the mean: what rounding leaves of rows that are equal
  const double scale = std::sqrt(static_cast<double>(norms.width)) / norms.mean_norm;
  const double mean = norms.center, rest = norms.deviation;
  if (mean <= rest || rest <= kConstant * mean) return scale;
  return scale * std::sqrt((mean * mean + rest * rest) / (2 * rest * rest));
}

double threshold_rate(const TrainOptions& options) {
  return std::max(1.0,
                  kThresholdReach / (options.learning_rate * static_cast<double>(options.steps)));
}

double learning_rate_at(const TrainOptions& options, uint64_t step) {
  return options.learning_rate * rise(step, options.warmup_steps) *
         rise(options.steps - 1 - step, options.decay_steps);
}

double sparsity_at(const TrainOptions& options, uint64_t step) {
  return options.objective.sparsity * rise(step, options.sparsity_warmup_steps);
}

}  // namespace vyx::sae
