// Measurements on a subject, against the subject as it is.
#pragma once
#include <vector>

#include "apps/compare/compare.h"

namespace vyx::compare {

class Measure {
 public:
  Measure(Subject& subject, const CompareOptions& options);

  Subject& subject() { return subject_; }
  uint64_t tokens() const { return tokens_; }

  /// How much more each item's positive side is preferred than without the edit.
  std::vector<double> shifts(const Edit& edit, Split split);
  double effect(const Edit& edit, Split split);
  std::vector<double> other_shifts(const Edit& edit, size_t other);
  std::vector<double> ood_shifts(const Edit& edit);
  std::vector<double> choices_right(const Edit& edit);
  const std::vector<double>& unedited_choices_right();
  double kl_p95(const Edit& edit, Split split);
  SideEffect side_effect(const Edit& edit, Split split);

  /// Finds doses on the selection half, from `first` on.
  DoseFinder finder(const Method& method, double first);
  /// The effect on the test at the headline dose, for a null draw as for a method.
  double headline_effect(const Method& method, double first);
  /// On the selection split.
  LatentResponse response(const Method& method, double dose);

 private:
  const std::vector<double>& baseline(Split split);
  void count(uint64_t tokens);

  Subject& subject_;
  const CompareOptions& options_;
  std::vector<double> baselines_[3];
  std::vector<std::vector<double>> other_baselines_;
  std::vector<double> ood_baseline_, choice_baseline_;
  uint64_t tokens_ = 0;
};

SideEffect summarise(const steering::NeutralEffect& effect);

}  // namespace vyx::compare
