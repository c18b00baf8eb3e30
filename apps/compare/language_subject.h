// A language model, edited at one site.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "apps/compare/subject.h"
#include "models/language_model/language_model.h"
#include "steering/directions/contrast_set.h"
#include "steering/effects/choices.h"

namespace vyx::compare {

struct NamedPairs {
  std::string name;
  std::vector<steering::ContinuationPair> pairs;
};

struct NamedChoices {
  std::string name;
  std::vector<steering::ChoiceItem> items;
};

struct LanguageInputs {
  Site site;
  steering::ContrastSet contrast;
  NamedPairs heldout;              // split into selection and test
  std::vector<NamedPairs> others;  // other concepts'
  NamedPairs ood;                  // continuations of another template; no pairs: not measured
  NamedChoices choices;            // a choice benchmark; no items: not measured
  std::string neutral;             // prose
  std::string instruction;         // asks for the concept, put before a prompt; "": not measured
};

struct LanguageOptions {
  // For side effects, half of them for the selection and half for the test.
  int64_t neutral_tokens = 8192;
  int64_t sample_neutral_tokens = 256;  // of the selection half, for what is measured many times
  int64_t background_tokens = 4096;  // of the text outside the test: latents' largest activations,
                                     // covariance, implicit vectors
  int64_t window = 128;
  int64_t sample_prompts = 2, sample_tokens = 32;  // greedy; 0 tokens: no texts
  uint64_t seed = 0;
};
void validate(const LanguageOptions& options);  // throws UsageError

/// Prompts are user messages where the model has a chat format. All tokens are edited. `model` must
/// outlive it. Throws Error for too little text, too few pairs to split, or another template that
/// only repeats the held-out pairs, and as steering/effects/effects.h does.
class LanguageSubject : public Subject {
 public:
  LanguageSubject(models::LanguageModel& model, LanguageInputs inputs,
                  const LanguageOptions& options);

  std::string site() const override { return inputs_.site.name(); }
  int64_t width() const override { return model_.config().spec.d_model; }
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
  const std::vector<size_t>& clusters(Split split) const override { return half(split).clusters; }
  std::vector<steering::NeutralEffect> neutral(Split split, Edits edits) override;
  std::vector<size_t> neutral_windows(Split split) const override;
  std::vector<steering::NeutralEffect> neutral_sample(Edits edits) override;
  std::vector<std::string> others() const override;
  std::vector<std::vector<double>> other_preference(size_t other, Edits edits) override;
  ContrastActivations other_contrast(size_t other) override;
  std::vector<std::vector<double>> ood_preference(Edits edits) override;
  const std::vector<size_t>& ood_clusters() const override { return ood_clusters_; }
  std::vector<std::vector<double>> choices_right(Edits edits) override;
  double choice_chance() const override { return choices_ ? choices_->chance() : 0; }
  std::optional<Instructed> instructed() override;
  std::vector<Sample> samples(const Edit* edit) override;
  uint64_t preference_tokens(Split split) const override {
    return half(split).preferences->tokens();
  }
  uint64_t neutral_tokens(Split split) const override { return half(split).neutral->tokens(); }
  uint64_t neutral_sample_tokens() const override { return neutral_sample_->tokens(); }
  uint64_t ood_tokens() const override { return ood_ ? ood_->tokens() : 0; }
  uint64_t choice_tokens() const override { return choices_ ? choices_->tokens() : 0; }
  Json provenance() const override { return provenance_; }
  std::vector<std::string> notes() const override { return notes_; }

 private:
  struct Half {  // selection, test
    std::vector<steering::ContinuationPair> pairs;
    std::vector<size_t> clusters;
    std::unique_ptr<steering::PreferenceMeter> preferences;
    std::unique_ptr<steering::NeutralMeter> neutral;
  };
  const Half& half(Split split) const { return halves_[split == Split::test]; }
  void read_contrast(const LanguageOptions& options);
  void read_heldout(const LanguageOptions& options);
  void read_ood();
  void read_choices();
  void read_neutral(const LanguageOptions& options);

  models::LanguageModel& model_;
  LanguageInputs inputs_;
  LanguageOptions options_;
  bool chat_;
  int64_t first_block_;              // of the site: what stands before it is run once
  ContrastActivations contrast_[3];  // by split
  std::vector<size_t> contrast_groups_[3];
  at::Tensor background_;  // [rows, d]
  Half halves_[2];
  std::unique_ptr<steering::NeutralMeter> neutral_sample_;
  std::vector<std::unique_ptr<steering::PreferenceMeter>> others_;
  std::unique_ptr<steering::PreferenceMeter> ood_;  // none: not measured
  std::vector<size_t> ood_clusters_;
  std::unique_ptr<steering::ChoiceMeter> choices_;  // none: not measured
  Json provenance_;
  std::vector<std::string> notes_;
};

}  // namespace vyx::compare
