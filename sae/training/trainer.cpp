#include "sae/training/trainer.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/base/random.h"
#include "sae/objectives/objective.h"
#include "sae/training/initialize.h"

namespace vyx::sae {
namespace {

constexpr double kHopeless =
    1e6;  // reconstruction errors of so many variances come from weights that have run away
constexpr uint64_t kResampleStream =
    0x5265'7361'6d70'6c65;  // keeps its randomness apart from the data's

/// b_dec is the median of what is reconstructed; an encoder that does not subtract it takes the
/// median of x away by its biases.
void begin_at_median(Autoencoder& sae, const at::Tensor& x, const at::Tensor& target) {
  const AutoencoderConfig& config = sae.config;
  Parameters& w = sae.weights;
  const at::Tensor median = geometric_median(normalized(config, x));  // [d_in]
  w.decoder_bias.copy_(target.defined() ? geometric_median(normalized_target(config, target))
                                        : median);
  if (config.subtract_decoder_bias) return;
  const at::Tensor product = at::mv(w.encoder, median);  // [latents]
  w.encoder_bias -= product;
  if (w.magnitude_bias.defined()) w.magnitude_bias -= product * w.magnitude_scale.exp();
}

}  // namespace

uint64_t steps_counted(const TrainOptions& options) {
  return (options.steps + 9) / 10;
}

TrainState initial_state(const TrainOptions& options, const at::Tensor& x,
                         const at::Tensor& target) {
  const AutoencoderConfig& config = options.autoencoder;
  InitializeOptions initial = options.initialize;
  initial.seed = options.seed;
  TrainState state;
  state.sae = initialize(config, initial);
  if (options.median_bias) begin_at_median(state.sae, x, target);
  state.adam = make_adam(state.sae.weights);
  state.idle = at::zeros({config.latents}, at::kLong);
  state.firings = at::zeros({config.latents}, at::kLong);
  return state;
}

Trainer::Trainer(TrainOptions options, TrainState state)
    : options_(std::move(options)), state_(std::move(state)) {
  validate(options_);
  options_.adam.logarithm_rate = threshold_rate(options_);
}

void Trainer::step(const at::Tensor& x, const at::Tensor& target) {
  const AutoencoderConfig& config = state_.sae.config;
  const uint64_t number = state_.step;
  ObjectiveInput input{normalized(config, x), {}, {}};
  if (target.defined()) input.target = normalized_target(config, target);
  const at::Tensor dead = state_.idle >= static_cast<int64_t>(options_.dead_after);  // [latents]
  if (dead.any().item<bool>()) input.dead = dead;
  ObjectiveOptions objective = options_.objective;
  objective.sparsity = sparsity_at(options_, number);
  const ObjectiveResult result = loss_and_gradients(state_.sae, input, objective, gradients_);
  if (!std::isfinite(result.loss))
    throw Diverged(fmt::format("step {}: the loss is {}", number, result.loss));
  if (result.variance > 0 && result.reconstruction > kHopeless * result.variance)
    throw Diverged(fmt::format(
        "step {}: the reconstruction error is {:.3g} times the variance of the activations", number,
        result.reconstruction / result.variance));
  const double gradient_norm = update(state_.adam, state_.sae.weights, gradients_,
                                      learning_rate_at(options_, number), options_.adam);
  if (!std::isfinite(gradient_norm))
    throw Diverged(fmt::format("step {}: the gradient's norm is {}", number, gradient_norm));

  if (traits_of(config.architecture).has_batch_threshold && result.lowest_activation > 0) {
    double& threshold = state_.sae.topk_threshold;
    const double decay = threshold > 0 ? options_.threshold_decay : 0;  // the first batch sets it
    threshold = decay * threshold + (1 - decay) * result.lowest_activation;
  }
  const auto* fired = result.firings.const_data_ptr<int64_t>();
  auto* idle = state_.idle.mutable_data_ptr<int64_t>();
  auto* firings = state_.firings.mutable_data_ptr<int64_t>();
  const bool counts = number >= options_.steps - steps_counted(options_);
  for (int64_t i = 0; i < config.latents; ++i) {
    idle[i] = fired[i] > 0 ? 0 : idle[i] + options_.batch;
    if (counts) firings[i] += fired[i];
  }
  IntervalSums& sums = state_.sums;
  sums.steps += 1;
  sums.loss += result.loss;
  sums.reconstruction += result.reconstruction;
  sums.variance += result.variance;
  sums.sparsity += result.sparsity;
  sums.auxiliary += result.auxiliary;
  sums.l0 += result.l0;
  sums.gradient_norm += gradient_norm;
  state_.step += 1;
  if (options_.resample_every > 0 && state_.step % options_.resample_every == 0 &&
      state_.step < options_.steps)
    resample(x, target);
}

void Trainer::resample(const at::Tensor& x, const at::Tensor& target) {
  const at::Tensor dead = state_.idle >= static_cast<int64_t>(options_.dead_after);  // [latents]
  if (!dead.any().item<bool>()) return;
  const AutoencoderConfig& config = state_.sae.config;
  const at::Tensor wanted =
      target.defined() ? normalized_target(config, target) : at::Tensor();  // [batch, d_out]
  const int64_t count =
      resample_dead(state_.sae, state_.adam, normalized(config, x), wanted, dead,
                    {.seed = random_bits(options_.seed, kResampleStream, state_.step),
                     .decoder_norm = options_.initialize.decoder_norm,
                     .threshold = options_.initialize.threshold});
  state_.idle.index_fill_(0, dead.nonzero().view(-1).narrow(0, 0, count),
                          0);  // the first ones, when there are more than tokens
}

Json Trainer::take_metrics() {
  const IntervalSums sums = std::exchange(state_.sums, {});
  const uint64_t tokens = state_.step * static_cast<uint64_t>(options_.batch);
  const auto patience = static_cast<int64_t>(std::min(options_.dead_after, tokens));
  const auto* idle = state_.idle.const_data_ptr<int64_t>();
  const auto dead = std::count_if(idle, idle + state_.idle.numel(),
                                  [&](int64_t tokens_idle) { return tokens_idle >= patience; });
  const auto mean = [&](double sum) {
    return sum / static_cast<double>(std::max<int64_t>(1, sums.steps));
  };
  const uint64_t last = state_.step == 0 ? 0 : state_.step - 1;
  Json metrics{
      {"step", state_.step},
      {"tokens", tokens},
      {"loss", mean(sums.loss)},
      {"reconstruction", mean(sums.reconstruction)},
      {"sparsity", mean(sums.sparsity)},
      {"auxiliary", mean(sums.auxiliary)},
      {"l0", mean(sums.l0)},
      {"dead_fraction", static_cast<double>(dead) / static_cast<double>(state_.idle.numel())},
      {"learning_rate", learning_rate_at(options_, last)},
      {"sparsity_coefficient", sparsity_at(options_, last)},
      {"gradient_norm", mean(sums.gradient_norm)}};
  // A constant activation has no variance to explain.
  metrics["explained_variance"] =
      sums.variance > 0 ? Json(1 - sums.reconstruction / sums.variance) : Json(nullptr);
  return metrics;
}

}  // namespace vyx::sae
