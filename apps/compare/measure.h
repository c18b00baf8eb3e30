// Measurements on a subject, against the subject as it is.
#pragma once
#include <cstdint>
#include <functional>
#include <vector>

#include "apps/compare/method.h"
#include "apps/compare/subject.h"

namespace vyx::compare {

struct SideEffect {
  double kl_mean = 0, kl_p95 = 0, kl_max = 0;  // nats: KL(edited ‖ unedited)
  double reverse_kl_mean = 0, reverse_kl_p95 = 0, reverse_kl_max = 0;  // KL(unedited ‖ edited)
  double loss_rise = 0;  // nats per token of neutral text
};
SideEffect summarise(const steering::NeutralEffect& effect);

/// Counts the tokens that it runs. What takes several edits measures them at once.
class Measure {
 public:
  explicit Measure(Subject& subject, std::function<void(uint64_t tokens)> on_tokens = {});

  Subject& subject() { return subject_; }
  uint64_t tokens() const { return tokens_; }
  /// Counts tokens that an earlier run of the same comparison ran.
  void count(uint64_t tokens);

  /// How much more each item's positive side is preferred than without the edit: [edits][items].
  std::vector<std::vector<double>> shifts(const std::vector<Edit>& edits, Split split);
  std::vector<double> shifts(const Edit& edit, Split split);
  std::vector<double> other_shifts(const Edit& edit, size_t other);
  std::vector<double> ood_shifts(const Edit& edit);
  std::vector<double> choices_right(const Edit& edit);
  const std::vector<double>& unedited_choices_right();

  std::vector<steering::NeutralEffect> neutral(const std::vector<Edit>& edits, Split split);
  /// The 95th percentile of KL over tokens: on a split's half of the neutral text, and on the small
  /// sample that null draws are dosed on [edits].
  double kl_p95(const Edit& edit, Split split);
  std::vector<double> sample_kl_p95(const std::vector<Edit>& edits);

  /// Finds doses on the selection half, from `first` on.
  DoseFinder finder(const Method& method, double first);

 private:
  const std::vector<double>& baseline(Split split);

  Subject& subject_;
  std::function<void(uint64_t)> on_tokens_;
  std::vector<double> baselines_[3];
  std::vector<std::vector<double>> other_baselines_;
  std::vector<double> ood_baseline_, choice_baseline_;
  uint64_t tokens_ = 0;
};

}  // namespace vyx::compare
