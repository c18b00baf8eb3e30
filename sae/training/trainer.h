// Training, step by step, in memory: what a step needs is a batch and the state that the last step
// left.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>

#include "core/base/error.h"
#include "sae/autoencoder/autoencoder.h"
#include "sae/store/activation_source.h"
#include "sae/training/adam.h"
#include "sae/training/recipe.h"

namespace vyx::sae {

/// Sums over the steps since the last line of the log.
struct IntervalSums {
  int64_t steps = 0;
  double loss = 0, reconstruction = 0, variance = 0, sparsity = 0, auxiliary = 0, l0 = 0,
         gradient_norm = 0;
};

/// All that training carries from step to step, and all that a checkpoint holds. The batches and
/// whatever is random are functions of the seed and the step.
struct TrainState {
  Autoencoder sae;
  Adam adam;
  uint64_t step = 0;  // steps done, and the number of the next batch
  at::Tensor idle;    // [latents] int64: tokens since each latent fired
  /// [latents] int64: tokens on which each fired, over the last steps_counted() steps.
  at::Tensor firings;
  IntervalSums sums;
};

/// The steps at the end of a run over which firings are counted: a tenth of it, at least one.
uint64_t steps_counted(const TrainOptions& options);

/// The loss or a gradient is no number, or the reconstruction is far worse than none. what() names
/// the step.
class Diverged : public Error {
 public:
  using Error::Error;
};

/// The state before the first step. `x` [batch, d_in] and `target` (undefined: x) are batch 0, from
/// which a geometric median is taken.
TrainState initial_state(const TrainOptions& options, const at::Tensor& x,
                         const at::Tensor& target);

class Trainer {
 public:
  /// Throws UsageError for invalid options.
  Trainer(TrainOptions options, TrainState state);

  /// One step on batch `state().step`: x [batch, d_in], target [batch, d_out] (undefined: x), as
  /// they come from the data. Throws Diverged; the state is then not worth keeping.
  void step(const at::Tensor& x, const at::Tensor& target);

  const TrainState& state() const { return state_; }
  /// What the log says of the steps since the last call: means, explained variance, dead fraction
  /// (of latents that did not fire within `dead_after` tokens, or ever when fewer were seen), the
  /// schedules at the last step.
  Json take_metrics();

 private:
  void resample(const at::Tensor& x, const at::Tensor& target);

  TrainOptions options_;
  TrainState state_;
  Parameters gradients_;
};

}  // namespace vyx::sae
