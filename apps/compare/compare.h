// The comparison: every method over one road (road.h), at equal side effect, on data that it was
// not made or chosen from.
//
// Directions come from the extraction split; the ridge of the regression, the latents and where
// doses are looked for from the selection split; what is reported from the test split, which
// nothing is tuned on. Nulls are the same road over a replaced input (nulls.h).
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "apps/compare/draws.h"
#include "apps/compare/equal_level.h"
#include "apps/compare/geometry.h"
#include "apps/compare/intervals.h"
#include "apps/compare/latents.h"
#include "apps/compare/measure.h"
#include "apps/compare/method.h"

namespace vyx::compare {

struct CompareOptions {
  std::vector<double> levels = {
      0.1, 0.3, 1};  // nats: 95th percentile over neutral tokens of KL(edited ‖ unedited)
  // The level at which nulls, slopes, other latents, texts are measured; one of them.
  double headline = 0.3;
  int64_t nulls = 199;        // draws of each kind; 0: none
  int64_t k = 8;              // latents of "best k latents"
  int64_t candidates = 12;    // latents whose effect is measured to choose from them
  int64_t bootstrap = 9'999;  // resamples of an interval
  uint64_t seed = 0;
  std::filesystem::path draws;  // where draws are kept, to go on from (kept_draws.h); "": nowhere
  std::function<void(uint64_t tokens)> on_tokens;  // run through the model since the last call
  std::function<void(const std::string& what)> on_step;        // what begins
  std::function<void(const std::string& message)> on_message;  // what the user should know
};
void validate(const CompareOptions& options);  // throws UsageError

struct Level {
  double level = 0;
  Dose found;               // on the selection half of the neutral text
  double dose = 0;          // at exactly the level on the test half, where all of this is read
  bool reached = false;     // false: no dose has the level on both halves; the nearest one is given
  double log_kl_error = 0;  // standard error of ln(KL p95) on the test half: how sure the dose is
  SideEffect side_effect;   // on the test half
  std::vector<double> shifts;  // [items of the test], nats per token
  double effect = 0;           // their mean
  Interval interval;           // over items, and over what KL the test half's windows show
  std::vector<Sample> samples;
};

struct OtherShift {
  std::string name;
  double shift = 0;
  Interval interval;
};

/// On another template than the contrast set's and the test's.
struct OodEffect {
  std::vector<double> shifts;  // [items], nats per token
  double effect = 0;           // their mean
  Interval interval;
};

/// On a choice benchmark, as shares of its items.
struct ChoiceAccuracy {
  double accuracy = 0;
  double change = 0;  // from the unedited model's, item by item
  Interval interval;  // of the change
};

/// How much further a method moves the concept than another one at equal KL, item by item.
struct Gain {
  std::string over;
  double difference = 0;
  Interval interval;
  double p = 1;  // two-sided, by flipping the signs of clusters' differences
};

struct MethodResult {
  std::string name;
  Family family = Family::direction;
  Role role = Role::method;
  std::vector<int64_t> latents;
  std::vector<DosePoint> curve;  // KL over dose on the selection half
  std::vector<Level> levels;
  DoseResponse test_curve;  // on the test half: what levels were read from

  // At the headline dose, on the test split.
  std::vector<double> response_doses,
      responses;  // as shares of that dose; mean preference over that of the unedited model
  double anti_steerable = 0;  // share of items whose slope over these is negative
  double spearman = 0;        // mean over items
  double wrong_sign = 0;      // effect at minus the dose
  std::vector<OtherShift> others;
  std::optional<OodEffect> ood;           // nullopt: no other template was given
  std::optional<ChoiceAccuracy> choices;  // nullopt: no choice benchmark was given
  LatentChangeSummary latent_changes;
  double distinct2 = 0, repeated4 = 0;  // of the texts; NaN without texts

  // Detection: contrast pairs of the test split by their projection on v̂ (a latent: by its
  // activation).
  double accuracy = 0, auroc = 0;

  // Geometry of the implicit vector at the headline dose, over the background.
  ImplicitVector implicit;
  DictionaryFit dictionary;
  // Of each token's v with the first method's v̄: 5th, 50th and 95th percentile.
  std::vector<double> token_cosines;

  std::optional<Gain> gain_over_mean;   // nullopt: it is the mean direction, or there is none
  std::vector<Gain> gain_over_foreign;  // a foreign concept's vector; none for a control
  MethodNulls nulls;                    // none for a control
};

struct PassLine {
  std::string method, rule;
  std::optional<bool> passed;  // nullopt: not measured
  std::string detail;
};

struct Comparison {
  std::string site;
  double headline = 0;
  double median_norm = 0;  // of the background's activations: the unit of a direction's dose
  int64_t latents = 0,
          firing_latents = 0;  // of the autoencoder; those that fire in what was looked at
  std::vector<MethodResult> methods;
  // Of the methods' mean implicit vectors [methods][methods].
  std::vector<std::vector<double>> cosines;
  std::optional<Instructed> instructed;
  double instructed_effect = 0;
  Interval instructed_interval;
  SideEffect instructed_side_effect;
  std::vector<Sample> unedited;
  int64_t ood_items = 0, choice_items = 0;          // 0: not measured
  double choice_chance = 0, unedited_accuracy = 0;  // on the choice benchmark
  Interval unedited_accuracy_interval;
  // That no method has an effect, by step-down max z over the null that drives all of them; NaN:
  // none was drawn.
  double global_p = std::numeric_limits<double>::quiet_NaN();
  int64_t shared_draws = 0;  // that it is of
  std::vector<PassLine> rules;
  std::vector<std::string> notes;  // what was left out, and what the numbers do not show
  int64_t items = 0;               // of the test
  uint64_t tokens = 0;             // run through the model
  Json provenance;
};

/// Throws Error when no method is left, when no latent fires, and as the subject does.
Comparison compare(Subject& subject, const sae::Autoencoder& sae,
                   const CompareOptions& options = {});

}  // namespace vyx::compare
