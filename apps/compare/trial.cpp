#include "apps/compare/trial.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numeric>
#include <utility>

#include "apps/compare/rules.h"
#include "apps/compare/sign_flip.h"
#include "apps/compare/statistics.h"
#include "core/base/random.h"
#include "sae/metrics/separation.h"

namespace vyx::compare {
namespace {

enum TrialStream : uint64_t { kItemStream = 201, kFlipStream, kTextStream };  // of the seed
constexpr double kResponseDoses[] = {-1, -0.5, 0, 0.5, 1};
constexpr double kAround = 1.25;       // of the headline's dose: measured on both sides of it
constexpr double kFurther = 1.1;       // beyond where a level is expected that no dose encloses
constexpr int kExtensions = 4;         // of a curve whose doses enclose no level
constexpr int64_t kWindowDraws = 200;  // resamples of the neutral text's windows

std::vector<double> to_vector(const at::Tensor& values) {  // [n]
  const at::Tensor wide = values.to(at::kDouble).contiguous();
  return {wide.const_data_ptr<double>(), wide.const_data_ptr<double>() + wide.numel()};
}

/// One number per activation, by which a method would tell the sides apart [rows].
at::Tensor readings(const Method& method, const Latents& latents, const at::Tensor& x) {
  if (method.family == Family::direction) return x.to(at::kDouble).mv(method.direction);
  const at::Tensor chosen = at::tensor(method.latents, at::kLong);
  return (encode(latents.sae, x).index_select(1, chosen) / latents.largest.index_select(0, chosen))
      .sum(1);
}

/// Between two doses: KL as a power of the dose, the loss linear in its logarithm.
SideEffect between(const SideEffect& low, const SideEffect& high, double share) {
  const auto power = [&](double SideEffect::*member) {
    const double a = low.*member, b = high.*member;
    return a > 0 && b > 0 ? std::exp((1 - share) * std::log(a) + share * std::log(b))
                          : (1 - share) * a + share * b;
  };
  return {.kl_mean = power(&SideEffect::kl_mean),
          .kl_p95 = power(&SideEffect::kl_p95),
          .kl_max = power(&SideEffect::kl_max),
          .reverse_kl_mean = power(&SideEffect::reverse_kl_mean),
          .reverse_kl_p95 = power(&SideEffect::reverse_kl_p95),
          .reverse_kl_max = power(&SideEffect::reverse_kl_max),
          .loss_rise = (1 - share) * low.loss_rise + share * high.loss_rise};
}

template <class Points>
DoseResponse response_of(const Points& curve) {
  DoseResponse response;
  for (const auto& [dose, point] : curve) {
    response.doses.push_back(dose);
    response.kl.push_back(to_vector(point.neutral.kl));
    response.shifts.push_back(point.shifts);
  }
  return response;
}

void repeat(const Level& headline, MethodResult& result) {
  std::vector<double> distinct, repeated;
  for (const Sample& sample : headline.samples) {
    if (sample.tokens.size() < 4) continue;  // has no 4-gram
    distinct.push_back(distinct_ngrams(sample.tokens, 2));
    repeated.push_back(repeated_ngrams(sample.tokens, 4));
  }
  result.distinct2 = mean(distinct);
  result.repeated4 = mean(repeated);
}

}  // namespace

Trial::Trial(Measure& measure, const Latents& latents, const CompareOptions& options)
    : measure_(measure),
      subject_(measure.subject()),
      latents_(latents),
      options_(options),
      dictionary_(latents.sae.weights.decoder),
      windows_(subject_.neutral_windows(Split::test)),
      window_count_(windows_.empty() ? 0 : windows_.back() + 1),
      window_draws_(
          draw_windows(window_count_, kWindowDraws, random_bits(options.seed, kTextStream, 0))) {}

MethodResult Trial::run(const Method& method, double first, const at::Tensor& reference) const {
  MethodResult result{
      .name = method.name, .family = method.family, .role = method.role, .latents = method.latents};
  DoseFinder finder = measure_.finder(method, first);
  std::vector<Dose> found;
  for (const double level : options_.levels) found.push_back(finder.find(level));
  result.curve = finder.curve();
  const Curve curve = measure_curve(method, found);
  for (size_t i = 0; i < found.size(); ++i)
    result.levels.push_back(at_level(method, options_.levels[i], found[i], curve));
  result.test_curve = response_of(curve);
  const Level& headline = headline_of(result, options_.headline);
  respond(method, headline, result);
  const Edit edit = method.edit(headline.dose);
  const std::vector<std::string> others = subject_.others();
  for (size_t i = 0; i < others.size(); ++i) {
    const std::vector<double> shifts = measure_.other_shifts(edit, i);
    std::vector<size_t> alone(shifts.size());
    std::iota(alone.begin(), alone.end(), size_t{0});
    result.others.push_back({others[i], mean(shifts), interval(shifts, alone)});
  }
  if (!subject_.ood_clusters().empty()) result.ood = on_another_template(edit);
  if (subject_.choice_tokens() > 0) result.choices = on_choices(edit);
  repeat(headline, result);
  detect(method, result);
  place(edit, method, reference, result);
  return result;
}

Interval Trial::interval(const std::vector<double>& values,
                         const std::vector<size_t>& clusters) const {
  return mean_interval(values, clusters, options_.bootstrap,
                       random_bits(options_.seed, kItemStream, 0));
}

Gain Trial::gain(const MethodResult& method, const MethodResult& over) const {
  const Level &a = headline_of(method, options_.headline),
              &b = headline_of(over, options_.headline);
  const SignFlip flips = sign_flip(difference(a.shifts, b.shifts), subject_.clusters(Split::test),
                                   random_bits(options_.seed, kFlipStream, 0));
  Gain gain{.over = over.name, .difference = flips.mean, .interval = flips.interval, .p = flips.p};
  if (a.reached && b.reached) {
    const auto resampled = [&](const MethodResult& of) {
      return resampled_effects(of.test_curve, options_.headline, windows_, window_draws_);
    };
    const double margin =
        level_margin(difference(resampled(method), resampled(over)), window_count_);
    if (std::isfinite(margin)) gain.interval = widened(gain.interval, gain.difference, margin);
  }
  return gain;
}

void Trial::extend(const Method& method, const std::vector<double>& doses, Curve& curve) const {
  std::vector<double> wanted;
  std::vector<Edit> edits;
  for (const double dose : doses)
    if (dose > 0 && curve.count(dose) == 0) {
      wanted.push_back(dose);
      edits.push_back(method.edit(dose));
    }
  std::vector<steering::NeutralEffect> neutral = measure_.neutral(edits, Split::test);
  std::vector<std::vector<double>> shifts = measure_.shifts(edits, Split::test);
  for (size_t i = 0; i < wanted.size(); ++i)
    curve.insert_or_assign(wanted[i], Point{std::move(neutral[i]), std::move(shifts[i])});
}

Trial::Curve Trial::measure_curve(const Method& method, const std::vector<Dose>& found) const {
  std::vector<double> doses;
  for (size_t i = 0; i < found.size(); ++i) {
    doses.push_back(found[i].dose);
    if (options_.levels[i] == options_.headline)
      doses.insert(doses.end(), {found[i].dose / kAround, found[i].dose * kAround});
  }
  std::sort(doses.begin(), doses.end());
  doses.erase(std::unique(doses.begin(), doses.end()), doses.end());
  Curve curve;
  extend(method, doses, curve);
  for (int i = 0; i < kExtensions; ++i) {
    const DoseResponse response = response_of(curve);
    std::vector<double> further;
    for (size_t level = 0; level < found.size(); ++level) {
      if (!found[level].reached) continue;
      const AtLevel at = compare::at_level(response, options_.levels[level]);
      if (!at.between)
        further.push_back(at.dose > response.doses.back() ? at.dose * kFurther
                                                          : at.dose / kFurther);
    }
    if (further.empty()) break;
    extend(method, further, curve);
  }
  return curve;
}

Level Trial::at_level(const Method& method, double level, const Dose& found,
                      const Curve& curve) const {
  Level result{.level = level, .found = found, .dose = found.dose};
  const DoseResponse response = response_of(curve);
  double margin = 0;
  if (found.reached) {
    AtLevel at = compare::at_level(response, level);
    result.dose = at.dose;
    result.reached = at.between;
    result.shifts = std::move(at.shifts);
    margin =
        level_margin(resampled_effects(response, level, windows_, window_draws_), window_count_);
    auto high = curve.upper_bound(at.dose);
    if (high == curve.end()) --high;
    if (high == curve.begin()) ++high;
    const auto low = std::prev(high);
    result.side_effect =
        between(summarise(low->second.neutral), summarise(high->second.neutral),
                std::log(at.dose / low->first) / std::log(high->first / low->first));
    result.log_kl_error = log_kl_error(to_vector(low->second.neutral.kl), windows_, window_draws_);
  } else {
    const Point& point = curve.at(found.dose);
    result.shifts = point.shifts;
    result.side_effect = summarise(point.neutral);
    result.log_kl_error = log_kl_error(to_vector(point.neutral.kl), windows_, window_draws_);
  }
  result.effect = mean(result.shifts);
  result.interval = interval(result.shifts, subject_.clusters(Split::test));
  if (std::isfinite(margin)) result.interval = widened(result.interval, result.effect, margin);
  const Edit edit = method.edit(result.dose);
  result.samples = subject_.samples(&edit);
  return result;
}

OodEffect Trial::on_another_template(const Edit& edit) const {
  OodEffect result{.shifts = measure_.ood_shifts(edit)};
  result.effect = mean(result.shifts);
  result.interval = interval(result.shifts, subject_.ood_clusters());
  return result;
}

ChoiceAccuracy Trial::on_choices(const Edit& edit) const {
  const std::vector<double> right = measure_.choices_right(edit);
  const std::vector<double>& before = measure_.unedited_choices_right();
  return {.accuracy = mean(right),
          .change = mean(right) - mean(before),
          .interval = share_change_interval(before, right)};
}

void Trial::respond(const Method& method, const Level& headline, MethodResult& result) const {
  result.response_doses.assign(std::begin(kResponseDoses), std::end(kResponseDoses));
  std::vector<Edit> edits;
  for (const double share : result.response_doses)
    if (share != 0 && share != 1) edits.push_back(method.edit(share * headline.dose));
  std::vector<std::vector<double>> measured = measure_.shifts(edits, Split::test);
  std::vector<std::vector<double>> by_item(headline.shifts.size());
  size_t next = 0;
  for (const double share : result.response_doses) {
    // The middle is the model as it is: a latent set to 0 is already an edit.
    const std::vector<double> shifts = share == 0   ? std::vector<double>(by_item.size(), 0.0)
                                       : share == 1 ? headline.shifts
                                                    : std::move(measured[next++]);
    result.responses.push_back(mean(shifts));
    for (size_t i = 0; i < shifts.size(); ++i) by_item[i].push_back(shifts[i]);
  }
  result.wrong_sign = result.responses.front();
  std::vector<double> against, correlations;
  for (const std::vector<double>& responses : by_item) {
    against.push_back(slope(result.response_doses, responses) < 0);
    if (const double rho = spearman(result.response_doses, responses); !std::isnan(rho))
      correlations.push_back(rho);
  }
  result.anti_steerable = mean(against);
  result.spearman = mean(correlations);
}

void Trial::detect(const Method& method, MethodResult& result) const {
  const ContrastActivations& pairs = subject_.contrast(Split::test);
  const at::Tensor positive = readings(method, latents_, pairs.positive),
                   negative = readings(method, latents_, pairs.negative);
  result.accuracy = (at::gt(positive, negative).to(at::kDouble) +
                     0.5 * at::eq(positive, negative).to(at::kDouble))
                        .mean()
                        .item<double>();
  result.auroc = sae::auroc(to_vector(positive), to_vector(negative));
}

void Trial::place(const Edit& edit, const Method& method, const at::Tensor& reference,
                  MethodResult& result) const {
  const at::Tensor& x = subject_.background();
  const at::Tensor y = edit.apply(x);
  const at::Tensor v = y - x;  // [rows, d]
  result.implicit = vyx::compare::summarise(v);
  result.dictionary = dictionary_.fit(result.implicit.mean);
  result.latent_changes = latent_changes(latents_, x, y, method.latents);
  const at::Tensor target = reference.to(at::kDouble);  // [d]
  const at::Tensor wide = v.to(at::kDouble);
  const std::vector<double> cosines =
      to_vector(wide.mv(target) / (wide.norm(2, {1}) * target.norm()).clamp_min(1e-30));
  for (const double q : {0.05, 0.5, 0.95}) result.token_cosines.push_back(quantile(cosines, q));
}

}  // namespace vyx::compare
