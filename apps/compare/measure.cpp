#include "apps/compare/measure.h"

#include <ATen/Functions.h>

#include <cmath>
#include <utility>

#include "apps/compare/statistics.h"

namespace vyx::compare {
namespace {

// Of a KL on the selection half: that on the test half is read between doses anyway.
constexpr double kSearchTolerance = 0.1;

double p95(const at::Tensor& kl) {  // [tokens]
  return kl.quantile(0.95).item<double>();
}

std::vector<const Edit*> pointers(const std::vector<Edit>& edits) {
  std::vector<const Edit*> result;
  for (const Edit& edit : edits) result.push_back(&edit);
  return result;
}

}  // namespace

SideEffect summarise(const steering::NeutralEffect& effect) {
  return {.kl_mean = effect.kl.mean().item<double>(),
          .kl_p95 = p95(effect.kl),
          .kl_max = effect.kl.max().item<double>(),
          .reverse_kl_mean = effect.reverse_kl.mean().item<double>(),
          .reverse_kl_p95 = p95(effect.reverse_kl),
          .reverse_kl_max = effect.reverse_kl.max().item<double>(),
          .loss_rise =
              effect.loss_rise.numel() > 0 ? effect.loss_rise.mean().item<double>() : std::nan("")};
}

Measure::Measure(Subject& subject, std::function<void(uint64_t)> on_tokens)
    : subject_(subject), on_tokens_(std::move(on_tokens)) {}

void Measure::count(uint64_t tokens) {
  tokens_ += tokens;
  if (on_tokens_) on_tokens_(tokens);
}

const std::vector<double>& Measure::baseline(Split split) {
  std::vector<double>& known = baselines_[static_cast<size_t>(split)];
  if (known.empty()) known = subject_.preference(split, nullptr);
  return known;
}

std::vector<std::vector<double>> Measure::shifts(const std::vector<Edit>& edits, Split split) {
  if (edits.empty()) return {};
  const std::vector<double>& before = baseline(split);
  std::vector<std::vector<double>> result = subject_.preference(split, pointers(edits));
  count(edits.size() * subject_.preference_tokens(split));
  for (std::vector<double>& items : result) items = difference(std::move(items), before);
  return result;
}

std::vector<double> Measure::shifts(const Edit& edit, Split split) {
  return shifts(std::vector{edit}, split).front();
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

std::vector<steering::NeutralEffect> Measure::neutral(const std::vector<Edit>& edits, Split split) {
  if (edits.empty()) return {};
  std::vector<steering::NeutralEffect> effects = subject_.neutral(split, pointers(edits));
  count(edits.size() * subject_.neutral_tokens(split));
  return effects;
}

double Measure::kl_p95(const Edit& edit, Split split) {
  return p95(neutral({edit}, split).front().kl);
}

std::vector<double> Measure::sample_kl_p95(const std::vector<Edit>& edits) {
  if (edits.empty()) return {};
  std::vector<double> result;
  for (const steering::NeutralEffect& effect : subject_.neutral_sample(pointers(edits)))
    result.push_back(p95(effect.kl));
  count(edits.size() * subject_.neutral_sample_tokens());
  return result;
}

DoseFinder Measure::finder(const Method& method, double first) {
  return DoseFinder(
      [this, edit = method.edit](double dose) { return kl_p95(edit(dose), Split::selection); },
      {.first = first, .tolerance = kSearchTolerance});
}

}  // namespace vyx::compare
