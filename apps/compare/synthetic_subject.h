// A model whose features are known: what a method should find can be compared with what it moves.
//
// Activations are x = Σ a_j d_j with orthonormal d_j. Feature 0 is the concept, feature 1 a
// neighbour that fires with it more often than without it, the others are independent. The model
// reads feature j into the logit of token j, beside one token of logit 0. Another template has the
// independent features at thrice the frequency. A choice asks which of some independent features
// was turned on, beside what else fires.
#pragma once
#include <vector>

#include "apps/compare/subject.h"
#include "core/hooks/hooked_module.h"
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
  const at::Tensor& background() const override { return background_; }
  std::vector<double> preference(Split split, const Edit* edit) override;
  at::Tensor preference_slopes(Split split) override;
  const std::vector<size_t>& clusters(Split) const override { return clusters_; }
  steering::NeutralEffect neutral(Split split, const Edit* edit) override;
  std::vector<std::string> others() const override {
    return {"the neighbour", "an independent feature"};
  }
  std::vector<double> other_preference(size_t other, const Edit* edit) override;
  // Of background that has the feature, and that has not.
  at::Tensor other_direction(size_t other) override;
  std::vector<double> ood_preference(const Edit* edit) override;
  const std::vector<size_t>& ood_clusters() const override { return clusters_; }
  std::vector<double> choices_right(const Edit* edit) override;
  double choice_chance() const override { return 1.0 / kChoices; }
  std::optional<Instructed> instructed() override { return std::nullopt; }
  std::vector<Sample> samples(const Edit*) override { return {}; }
  uint64_t preference_tokens(Split) const override { return static_cast<uint64_t>(options_.items); }
  uint64_t neutral_tokens(Split) const override { return static_cast<uint64_t>(options_.rows / 2); }
  uint64_t ood_tokens() const override { return static_cast<uint64_t>(options_.items); }
  uint64_t choice_tokens() const override { return static_cast<uint64_t>(options_.choices); }
  Json provenance() const override;
  std::vector<std::string> notes() const override { return {}; }

 private:
  at::Tensor draw(int64_t rows, int concept_on, uint64_t stream,
                  double others) const;                                 // activations [rows, width]
  at::Tensor log_probabilities(const at::Tensor& x, const Edit* edit);  // [rows, features + 1]
  static constexpr int64_t kChoices = 4;

  std::vector<double> feature_preference(const at::Tensor& x, int64_t feature, const Edit* edit);

  SyntheticOptions options_;
  at::Tensor features_;  // [features, width]
  HookedModule model_;
  ContrastActivations contrast_[3];   // by split
  at::Tensor background_;             // [rows, width]
  at::Tensor items_[2], neutral_[2];  // selection, test [items, width], [rows / 2, width]
  at::Tensor ood_;                    // [items, width]
  at::Tensor choices_;                // [choices, width]
  at::Tensor asked_;  // features of each choice, the right one first [choices, kChoices] int64
  std::vector<size_t> clusters_;
};

}  // namespace vyx::compare
