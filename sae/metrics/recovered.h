// What a language model loses when a site's activation is replaced by its reconstruction, against
// replacing it by zero or by its mean.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "core/base/json_guard.h"
#include "models/activations/row_filter.h"
#include "models/language_model/language_model.h"
#include "sae/autoencoder/autoencoder.h"

namespace vyx::sae {

struct RecoveredOptions {
  /// Rows that the autoencoder was not trained on (as a rule: models/activations/row_filter.h) pass
  /// unreplaced, for the ablations as well: special tokens, and attention sinks, rows whose norm is
  /// beyond this many times the median. 0: sinks are replaced too.
  double sink_threshold = models::kSinkThreshold;
  bool replace_special = false;
  int64_t max_batch_tokens = 2048;  // of one forward, padding included
  // After each batch: how many more tokens are done.
  std::function<void(uint64_t tokens)> on_tokens;
};

/// Means over the predicted tokens, in nats.
struct Recovered {
  struct Loss {
    double cross_entropy = 0;  // of the text
    double kl = 0;             // KL(clean ‖ replaced)
  };
  int64_t tokens = 0;  // that were predicted
  int64_t replaced = 0,
          left = 0;  // rows (tokens of the text) that were replaced, and that were not
  Loss clean;        // kl = 0
  Loss reconstruction, zero, mean;

  /// (ablated − reconstruction) / (ablated − clean): 1: nothing is lost, 0: no better than
  /// ablation.
  double cross_entropy_score(const Loss& ablated) const;
  double kl_score(const Loss& ablated) const;
};
Json to_json(const Recovered& recovered);         // a score that is not finite: null
std::string to_text(const Recovered& recovered);  // one line per kind of replacement

/// Runs each of `rows` (a text's tokens, of which the first predicts the second, and so on) clean
/// and replaced. The site is the autoencoder's own; a transcoder reads its site and replaces its
/// target's. Throws Error for a site that the model lacks or that has another width, a crosscoder,
/// a row longer than the model's context, and when there is nothing to predict or to replace.
Recovered measure_recovered(models::LanguageModel& model, const Autoencoder& sae,
                            std::span<const std::vector<models::TokenId>> rows,
                            const RecoveredOptions& options = {});

}  // namespace vyx::sae
