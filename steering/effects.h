// What steering does, in numbers: the shift towards the concept, and the side effect on text that has nothing
// to do with it.
#pragma once
#include <ATen/core/Tensor.h>

#include <span>
#include <string>
#include <vector>

#include "models/language_model.h"
#include "steering/contrast_set.h"

namespace vyx::steering {

struct Effect {
  double shift = 0;           // nats a token: how much more the model now prefers the positive continuations (see preference())
  double positive_share = 0;  // of the pairs, those that moved towards the positive side
  double kl_mean = 0;         // nats: mean over the tokens of the neutral text of KL(steered ‖ unsteered)
  double kl_p95 = 0;          // nats: the 95th percentile over those tokens
};

/// Measures effects against the model as it is when this is made: make it before steering. Continuations and
/// neutral text are run as if the model had written them, so that an edit of Positions::generated is measured
/// too.
class EffectMeter {
 public:
  /// `chat`: the prompts of the pairs are user messages in the model's chat format. `neutral` is cut into
  /// windows of `window` tokens, of which max_neutral_tokens are used. Throws Error when there is no pair or
  /// no neutral text.
  struct Options {
    bool chat = true;
    int64_t window = 128;
    int64_t max_neutral_tokens = 512;
  };
  EffectMeter(models::LanguageModel& model, std::vector<ContinuationPair> pairs, std::string_view neutral, Options options);
  EffectMeter(models::LanguageModel& model, std::vector<ContinuationPair> pairs, std::string_view neutral)
      : EffectMeter(model, std::move(pairs), neutral, Options{}) {}

  /// The effect of what is hooked in the model now.
  Effect measure();
  /// Of the unsteered model: mean over the pairs of preference(), nats a token.
  double baseline_preference() const;

  /// A pair's preference: mean log-probability a token of its positive continuation minus that of its
  /// negative one, teacher-forced.
  std::vector<double> preference();

 private:
  struct EncodedPair {
    std::vector<models::TokenId> prompt, positive, negative;
  };

  void measure_preference(std::span<const size_t> batch, std::vector<double>& preference);
  at::Tensor neutral_log_probabilities(const std::vector<models::TokenId>& window);  // [seq, vocabulary] float32

  models::LanguageModel& model_;
  std::vector<EncodedPair> pairs_;
  std::vector<std::vector<size_t>> batches_;           // pairs of like length
  std::vector<std::vector<models::TokenId>> neutral_;  // windows
  std::vector<at::Tensor> unsteered_neutral_;          // neutral_log_probabilities() of the unsteered model
  std::vector<double> baseline_;                       // preference() of the unsteered model
};

}  // namespace vyx::steering
