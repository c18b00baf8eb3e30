// A model whose features are known: what a method should find can be compared with what it moves.
//
// Activations are x = Σ a_j d_j with orthonormal d_j. Feature 0 is the concept, feature 1 a
// neighbour that fires with it more often than without it, the others are independent. The model
// reads feature j into the logit of token j, beside one token of logit 0. Another template has the
// independent features at thrice the frequency. A choice asks which of some independent features
// was turned on, beside what else fires. Without a concept, the sides of the pairs are alike, and
// the logit that the preference is about reads a random direction that no feature has: whatever is
// found is chance.
#pragma once
#include <vector>

#include "apps/compare/subject.h"
#include "sae/autoencoder/autoencoder.h"

namespace vyx::compare {

struct SyntheticOptions {
  int64_t width = 32, features = 24;
  int64_t pairs = 128;    // contrast pairs; half of them for extraction
  int64_t rows = 512;     // of background; half as many for each half of the side effects
  int64_t choices = 200;  // of the choice benchmark
  int64_t items = 24;     // whose preference is measured, in each of selection and test
  double neighbour_with = 0.9,
         // Probability that the neighbour fires beside the concept, and without it.
      neighbour_without = 0.1;
  double others = 0.15;  // probability that each of the other features fires
  double noise = 0.05;   // standard deviation of each coordinate
  double strength = 4, strength_deviation = 0.5;  // of a feature that fires
  double gain = 0.5;                              // of a logit
  bool has_concept = true;
  uint64_t seed = 0;
};

class SyntheticSubject : public Subject {
 public:
  explicit SyntheticSubject(const SyntheticOptions& options = {});

  const at::Tensor& features() const { return features_; }  // d_j [features, width]
  /// The dictionary of the true features: latent j is feature j.
  sae::Autoencoder true_autoencoder() const;

  std::string site() const override { return "site:output"; }
  int64_t width() const override { return options_.width; }
  const ContrastActivations& contrast(Split split) const override {
    return contrast_[static_cast<size_t>(split)];
  }
  const std::vector<size_t>& contrast_groups(Split split) const override {
    return contrast_groups_[static_cast<size_t>(split)];
  }
  const at::Tensor& background() const override { return background_; }
  using Subject::choices_right, Subject::neutral, Subject::ood_preference,
      Subject::other_preference, Subject::preference;
  std::vector<std::vector<double>> preference(Split split, Edits edits) override;
  at::Tensor preference_slopes(Split split) override;
  const std::vector<size_t>& clusters(Split) const override { return clusters_; }
  std::vector<steering::NeutralEffect> neutral(Split split, Edits edits) override;
  std::vector<size_t> neutral_windows(Split split) const override;
  std::vector<steering::NeutralEffect> neutral_sample(Edits edits) override {
    return neutral(Split::selection, edits);
  }
  std::vector<std::string> others() const override {
    return {"the neighbour", "an independent feature"};
  }
  std::vector<std::vector<double>> other_preference(size_t other, Edits edits) override;
  // Of background that has the feature, and that has not.
  ContrastActivations other_contrast(size_t other) override;
  std::vector<std::vector<double>> ood_preference(Edits edits) override;
  const std::vector<size_t>& ood_clusters() const override { return clusters_; }
  std::vector<std::vector<double>> choices_right(Edits edits) override;
  double choice_chance() const override { return 1.0 / kChoices; }
  std::optional<Instructed> instructed() override { return std::nullopt; }
  std::vector<Sample> samples(const Edit*) override { return {}; }
  uint64_t preference_tokens(Split) const override { return static_cast<uint64_t>(options_.items); }
  uint64_t neutral_tokens(Split) const override { return static_cast<uint64_t>(options_.rows / 2); }
  uint64_t neutral_sample_tokens() const override { return neutral_tokens(Split::selection); }
  uint64_t ood_tokens() const override { return static_cast<uint64_t>(options_.items); }
  uint64_t choice_tokens() const override { return static_cast<uint64_t>(options_.choices); }
  Json provenance() const override;
  std::vector<std::string> notes() const override { return {}; }

 private:
  /// Activations [rows, width].
  at::Tensor draw(int64_t rows, int concept_on, uint64_t stream, double others) const;
  /// The logit of token `feature` above that of the last token: [edits][rows of x].
  std::vector<std::vector<double>> feature_preference(const at::Tensor& x, int64_t feature,
                                                      Edits edits) const;
  static constexpr int64_t kChoices = 4;

  struct NeutralHalf {
    at::Tensor x;        // [rows / 2, width]
    at::Tensor log_p;    // of the unedited model [rows / 2, features + 1]
    at::Tensor p, next;  // the same as probabilities; the likeliest token [rows / 2, 1]
  };

  SyntheticOptions options_;
  at::Tensor features_;                     // [features, width]
  at::Tensor readout_;                      // x → logits [features + 1, width]
  ContrastActivations contrast_[3];         // by split
  std::vector<size_t> contrast_groups_[3];  // each pair its own
  at::Tensor background_;                   // [rows, width]
  at::Tensor items_[2];                     // selection, test [items, width]
  NeutralHalf neutral_[2];
  at::Tensor ood_;      // [items, width]
  at::Tensor choices_;  // [choices, width]
  at::Tensor asked_;    // features of each choice, the right one first [choices, kChoices] int64
  std::vector<size_t> clusters_;
};

}  // namespace vyx::compare
