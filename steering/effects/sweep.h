// A sweep over coefficients, and the choice of one: the strongest that leaves neutral text nearly
// alone.
#pragma once
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "steering/edits/steer.h"
#include "steering/effects/effects.h"

namespace vyx::steering {

/// The defaults come from SmolLM2-135M with happy–sad at blocks 8 to 21: KL is .33 and .22 nats at
/// ∓4, where the mood is plain and the answer is to the point; .74 and .50 at ∓6, where it begins
/// to drift; 1.2 and .9 at ∓8, fluent but off the point; 2.2 and 2.1 at ∓12, where it breaks.
struct SweepOptions {
  std::vector<double> coefficients = {2, 4, 6, 8, 10, 12};  // each is tried with both signs
  double max_kl = 0.5;  // nats per token on neutral text (mean): the side effect that is accepted
  SteerOptions steer;
};

struct SweepRow {
  double coefficient = 0;
  Effect effect;
};

struct Sweep {
  std::vector<SweepRow> rows;    // by coefficient, the most negative first; 0 is among them
  std::optional<double> chosen;  // the largest c for which −c and +c keep kl_mean <= max_kl and
                                 // shift the preference down and up
};

/// The choice among rows that are symmetric about 0.
std::optional<double> choose_coefficient(std::span<const SweepRow> rows, double max_kl);

/// Of whatever `set` gives a coefficient. Throws Error where no coefficient can move a pair: only
/// generated tokens are to be edited (`options.steer`), and all continuations are of one token,
/// which is predicted from the prompt.
Sweep sweep(const std::function<void(double coefficient)>& set, EffectMeter& meter,
            const SweepOptions& options = {},
            const std::function<void(const SweepRow&)>& on_row = {});
/// Of vectors.
Sweep sweep(models::LanguageModel& model, std::span<const WeightedVector> vectors,
            EffectMeter& meter, const SweepOptions& options = {},
            const std::function<void(const SweepRow&)>& on_row = {});

}  // namespace vyx::steering
