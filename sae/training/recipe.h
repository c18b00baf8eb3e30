// How an autoencoder is trained: every option, its published value for each architecture, and the
// schedules.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "core/base/json_guard.h"
#include "sae/autoencoder/autoencoder.h"
#include "sae/objectives/objective.h"
#include "sae/store/activation_source.h"
#include "sae/training/adam.h"
#include "sae/training/initialize.h"

namespace vyx::sae {

std::string_view name_of(JumpReluSparsity form);  // "l0-target"
// Throws UsageError listing them.
JumpReluSparsity jump_relu_sparsity_from_name(std::string_view name);

/// A run of training, whole. recipe() fills it; a default stands there.
struct TrainOptions {
  AutoencoderConfig autoencoder;  // train() takes sites, widths and, with Normalization::scale, the
                                  // scale from the data
  InitializeOptions initialize;   // its seed is `seed`
  bool median_bias = false;       // b_dec starts as the geometric median of the first batch
  ObjectiveOptions objective;     // its λ is what `sparsity_warmup_steps` leads up to
  AdamOptions adam;
  uint64_t steps = 0;  // batches
  int64_t batch = 0;   // tokens per step
  double learning_rate = 0;
  uint64_t warmup_steps = 0;           // the learning rate rises from 0
  uint64_t decay_steps = 0;            // it falls to 0 over the last steps
  uint64_t sparsity_warmup_steps = 0;  // λ rises from 0
  uint64_t dead_after = 0;             // tokens without firing after which a latent is dead
  uint64_t resample_every = 0;         // steps between resamplings of dead latents; 0: none
  // batch_topk: θ ← decay·θ + (1 − decay)·(smallest activation of the batch), as SAELens.
  double threshold_decay = 0.99;
  uint64_t seed = 0;
  uint64_t log_every = 10;          // steps per line of the log
  uint64_t checkpoint_every = 500;  // steps
};

/// What a recipe depends on.
struct RecipeInput {
  Architecture architecture = Architecture::topk;
  JumpReluSparsity jump_relu = JumpReluSparsity::l0;
  int64_t width = 0;  // d_in
  int64_t latents = 0;
  uint64_t tokens = 0;  // of the whole run; with `batch` it gives the steps
  int64_t batch = 4096;
};

/// The published recipe of an architecture. For all: Adam (0.9, 0.999), gradients clipped to norm
/// 1, inputs scaled so that E‖x‖ = √d at each site (scale_of), the geometric median as b_dec and
/// the encoder tied to the decoder at the start, the learning rate falling to 0 over the last
/// fifth.
///  - relu: Anthropic, "Update on how we train SAEs" (April 2024): λ = 5 rising over the first 5 %
///    of the steps, learning rate 5e-5, decoder rows of norm 0.1 that are then free, biases 0.
///  - gated: Rajamanoharan et al. 2024 (arXiv:2404.16014): learning rate 3e-4, unit-norm decoder,
///    Adam's β1 = 0.
///  - topk: Gao et al. 2024 (arXiv:2406.04093): k = 32, AuxK 1/32 on latents that have not fired
///    for 10 M tokens, unit-norm decoder, Adam's ε = 6.25e-10; learning rate 2e-4·(2¹⁴/latents)^½,
///    their scaling law as dictionary_learning has it.
///  - batch_topk: Bussmann et al. 2024 (arXiv:2412.06410), otherwise as topk; with prefixes also
///    Matryoshka (Bussmann et al. 2025, arXiv:2503.17547).
///  - jump_relu, l0 and l0_target: Rajamanoharan et al. 2024 (arXiv:2407.14435) and Gemma Scope
///    (arXiv:2408.05147): learning rate 7e-5, β1 = 0, unit-norm decoder, λ = 6e-4 (l0) rising over
///    10,000 steps, θ trained as its logarithm, ε = θ = 0.001. Those are for inputs of E‖x‖² = 1:
///    here lengths are √d, λ is d times that, and ε = θ = 0.05, which is 0.001·√d at the width of
///    Gemma 2 2B and, whatever the width, a twentieth of what z deviates by at the start.
///    l0_target's λ = 3 is three times dictionary_learning's, so that the error does not hold L0
///    more than 5 % off.
///  - jump_relu, tanh: Anthropic, "Dictionary Learning Optimization Techniques" (January 2025):
///    λ = 10 rising over the whole run, c = 4, ε = 2, θ = 0.1, λ_P = 3e-6, learning rate 2e-4.
/// Absolute numbers of steps and tokens were meant for runs of billions of tokens: here they are at
/// most a twentieth of the steps (warm-ups) and a tenth of the tokens (dead_after).
TrainOptions recipe(const RecipeInput& input);

/// Throws UsageError naming the option, as `vyx-sae-train` spells it.
void validate(const TrainOptions& options);

/// An option that not every run reads: only architectures with the trait, and only that form.
struct ConditionalOption {
  std::string_view name;  // "l0-target"
  bool ArchitectureTraits::*trait;
  std::optional<JumpReluSparsity> form = {};
};
std::span<const ConditionalOption> conditional_options();

/// What a run by these options would need to read --`name`, such as "--architecture topk or
/// batch-topk"; "": it reads it.
std::string needed_for(std::string_view name, const TrainOptions& options);

/// The options by their names on the command line, for a run's record: what must be the same when
/// it resumes.
Json to_json(const TrainOptions& options);

/// Whether vyx-sae-train has an option of this name. The other keys of to_json() follow from the
/// recipe alone.
bool is_option(std::string_view key);

/// s of a site (Normalization::scale): √width / E‖x‖, its mean cut down to its deviation where it
/// is longer, since b_dec takes the mean away and λ, θ and ε are meant for what is left.
double scale_of(const SiteNorms& norms);

/// What the learning rate of θ's logarithm is multiplied by, so that θ may go where λ sends it in
/// short runs, too: 1 where e^±8 is within reach, which is in runs as long as the published.
double threshold_rate(const TrainOptions& options);

/// The learning rate of step 0 … steps − 1, and λ: up from 1/warm-up of the value, constant, and
/// (the rate alone) down, 1/decay of it at the last step.
double learning_rate_at(const TrainOptions& options, uint64_t step);
double sparsity_at(const TrainOptions& options, uint64_t step);

}  // namespace vyx::sae
