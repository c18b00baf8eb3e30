// Which latents of an autoencoder have to do with a concept: those that read it (they fire where it
// is) and those that write it (turning them up makes the model say it), which are often not the
// same.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "models/activations/row_filter.h"
#include "models/language_model/language_model.h"
#include "sae/autoencoder/autoencoder.h"
#include "steering/directions/contrast_set.h"

namespace vyx::apps {

enum class Score {
  auroc,        // that a positive prompt's latent is above a negative one's
  difference,   // mean latent of the positive prompts − that of the negative ones
  attribution,  // nats per token: how much of the preference for positive continuations is due to
                // it, to first order (sae/latents/attribution.h)
  cosine,       // of its decoder row with a control vector
  predicted,    // nats per token: the shift below, to first order
  output,       // output score (sae/latents/output_score.h)
  shift,        // nats per token: how much more the model prefers positive continuations when it
                // is turned up (steering/effects/effects.h)
};
std::string_view name_of(Score score);
Score score_from_name(std::string_view name);  // throws UsageError listing them

struct LatentStudyInput {
  steering::ContrastSet contrast;  // without pairs: no auroc, no difference, and text is needed
  std::vector<steering::ContinuationPair> heldout;  // empty: no attribution, predicted, shift
  std::string neutral;                              // empty: no shift
  at::Tensor vector;  // a control vector's direction at the site [d]; undefined: no cosine
  // Where contexts are looked for; empty: the prompts of the contrast set.
  std::vector<std::vector<models::TokenId>> text;
};

struct LatentStudyOptions {
  /// ReadingOptions::all_tokens. Few latents fire at the last token, and what a prompt says need
  /// not be among them.
  bool all_tokens = true;
  // The order in which latents are shown; by cosine: both ends. nullopt: none but `latents`.
  std::optional<Score> by = Score::auroc;
  int64_t top = 10;              // shown, of each end
  std::vector<int64_t> latents;  // shown as well, whatever their place
  // Besides those shown, the output effects of this many latents of each ranking are measured.
  int64_t candidates = 3;
  std::string prompt = "In my experience,";  // neutral, for the output score
  /// Of predicted and shift: the norm of what is added at every token, in median norms of the
  /// site's activations.
  double dose = 0.1;
  int64_t contexts = 3,
          window = 10;  // a latent's strongest tokens, with as many tokens before them
  bool progress = false;
};
/// Throws UsageError.
void validate(const LatentStudyOptions& options, const LatentStudyInput& input, int64_t latents);

struct ShownContext {
  double activation = 0;
  std::string before, token, after;  // valid UTF-8
};

struct ShownLatent {
  int64_t latent = 0;
  std::vector<std::string> promoted,
      suppressed;  // tokens, by the logit lens of its decoder row, the strongest first; any bytes
  std::vector<ShownContext> contexts;
};

struct LatentStudy {
  std::string site;
  double median_norm = 0;              // of the site's activations
  std::map<Score, at::Tensor> scores;  // [latents] float64; NaN: not measured for this latent
  at::Tensor kl;  // [latents] float64: mean KL on neutral text that goes with shift, nats per token
  // The scores by which latents read and write; nothing says which read without a contrast set.
  std::optional<Score> reads;
  Score writes = Score::output;
  std::vector<int64_t> read_place, write_place;  // [latents] from 1; 0: not measured
  std::vector<int64_t> measured;                 // the latents whose output effects were measured
  std::vector<ShownLatent> shown;
  bool with_contexts = false;  // they were looked for
  uint64_t prompts = 0;        // that were read, of both sides
  models::LeftOut left;        // tokens of them (of --positions last: prompts) that were left out

  int64_t latents() const { return static_cast<int64_t>(read_place.size()); }
};

/// Throws Error when a side of the contrast set is left without tokens, and what the measurements
/// throw.
LatentStudy study_latents(models::LanguageModel& model, const sae::Autoencoder& sae,
                          const Site& site, const LatentStudyInput& input,
                          const LatentStudyOptions& options = {});

}  // namespace vyx::apps
