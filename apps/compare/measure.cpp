#include "apps/compare/measure.h"

#include <ATen/Functions.h>

#include <algorithm>
#include <cmath>

#include "core/base/error.h"

namespace vyx::compare {
SideEffect summarise(const steering::NeutralEffect& effect) {
  const auto p95 = [](const at::Tensor& kl) { return kl.quantile(0.95).item<double>(); };
  return {.kl_mean = effect.kl.mean().item<double>(),
          .kl_p95 = p95(effect.kl),
          .kl_max = effect.kl.max().item<double>(),
          .reverse_kl_mean = effect.reverse_kl.mean().item<double>(),
          .reverse_kl_p95 = p95(effect.reverse_kl),
          .reverse_kl_max = effect.reverse_kl.max().item<double>(),
          .loss_rise =
              effect.loss_rise.numel() > 0 ? effect.loss_rise.mean().item<double>() : std::nan("")};
}

Measure::Measure(Subject& subject, const CompareOptions& options)
    : subject_(subject), options_(options) {}

void Measure::count(uint64_t tokens) {
  tokens_ += tokens;
  if (options_.on_tokens) options_.on_tokens(tokens);
}

const std::vector<double>& Measure::baseline(Split split) {
  std::vector<double>& known = baselines_[static_cast<size_t>(split)];
  if (known.empty()) known = subject_.preference(split, nullptr);
  return known;
}

std::vector<double> Measure::shifts(const Edit& edit, Split split) {
  const std::vector<double>& before = baseline(split);
  count(subject_.preference_tokens(split));
  return difference(subject_.preference(split, &edit), before);
}

double Measure::effect(const Edit& edit, Split split) {
  return mean(shifts(edit, split));
}

std::vector<double> Measure::other_shifts(const Edit& edit, size_t other) {
  if (other_baselines_.empty())
    for (size_t i = 0; i < subject_.others().size(); ++i)
      other_baselines_.push_back(subject_.other_preference(i, nullptr));
  return difference(subject_.other_preference(other, &edit), other_baselines_[other]);
}

std::vector<double> Measure::ood_shifts(const Edit& edit) {
  if (ood_baseline_.empty()) ood_baseline_ = subject_.ood_preference(nullptr);
  count(subject_.ood_tokens());
  return difference(subject_.ood_preference(&edit), ood_baseline_);
}

std::vector<double> Measure::choices_right(const Edit& edit) {
  count(subject_.choice_tokens());
  return subject_.choices_right(&edit);
}

const std::vector<double>& Measure::unedited_choices_right() {
  if (choice_baseline_.empty()) {
    choice_baseline_ = subject_.choices_right(nullptr);
    count(subject_.choice_tokens());
  }
  return choice_baseline_;
}

double Measure::kl_p95(const Edit& edit, Split split) {
  return side_effect(edit, split).kl_p95;
}

SideEffect Measure::side_effect(const Edit& edit, Split split) {
  const SideEffect effect = summarise(subject_.neutral(split, &edit));
  count(subject_.neutral_tokens(split));
  return effect;
}

DoseFinder Measure::finder(const Method& method, double first) {
  return DoseFinder(
      [this, edit = method.edit](double dose) { return kl_p95(edit(dose), Split::selection); },
      {.first = first});
}

double Measure::headline_effect(const Method& method, double first) {
  return effect(method.edit(finder(method, first).find(options_.headline).dose), Split::test);
}

LatentResponse Measure::response(const Method& method, double dose) {
  const Edit edit = method.edit(dose);
  return {.shifts = shifts(edit, Split::selection), .kl = kl_p95(edit, Split::selection)};
}

}  // namespace vyx::compare
