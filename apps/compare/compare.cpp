#include "apps/compare/compare.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <utility>

#include "apps/compare/foreign.h"
#include "apps/compare/measure.h"
#include "apps/compare/nulls.h"
#include "apps/compare/p_values.h"
#include "apps/compare/rules.h"
#include "apps/compare/sign_flip.h"
#include "core/base/error.h"
#include "core/base/random.h"
#include "sae/metrics/separation.h"

namespace vyx::compare {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr uint64_t kBootstrap = 201, kRandomDirections = 202;  // streams of the seed
constexpr double kResponseDoses[] = {-1, -0.5, 0, 0.5, 1};

std::vector<double> to_vector(const at::Tensor& values) {  // [n]
  const at::Tensor wide = values.to(at::kDouble).contiguous();
  return {wide.const_data_ptr<double>(), wide.const_data_ptr<double>() + wide.numel()};
}

/// One number per activation, by which a method would tell the sides apart [rows].
at::Tensor readings(const Method& method, const sae::Autoencoder& sae, const at::Tensor& largest,
                    const at::Tensor& x) {
  if (method.family == Family::direction) return x.to(at::kDouble).mv(method.direction);
  const at::Tensor chosen = at::tensor(method.latents, at::kLong);
  return (encode(sae, x).index_select(1, chosen) / largest.index_select(0, chosen)).sum(1);
}

/// A method's results, step by step. All but the doses is measured on the test split.
class Trial {
 public:
  Trial(Measure& measure, const sae::Autoencoder& sae, const at::Tensor& largest,
        const CompareOptions& options)
      : measure_(measure),
        subject_(measure.subject()),
        sae_(sae),
        largest_(largest),
        options_(options) {}

  MethodResult run(const Method& method, const at::Tensor& reference) const {
    MethodResult result{.name = method.name,
                        .family = method.family,
                        .role = method.role,
                        .ignores_sides = method.ignores_sides,
                        .latents = method.latents};
    DoseFinder finder = measure_.finder(method, first_dose(method.family));
    for (const double level : options_.levels)
      result.levels.push_back(at_level(method, level, finder.find(level)));
    result.curve = finder.curve();
    const Level& headline = headline_of(result, options_.headline);
    respond(method, headline, result);
    const Edit edit = method.edit(headline.dose.dose);
    const std::vector<std::string> others = subject_.others();
    for (size_t i = 0; i < others.size(); ++i) {
      const std::vector<double> shifts = measure_.other_shifts(edit, i);
      result.others.push_back({others[i], mean(shifts), interval(shifts)});
    }
    if (!subject_.ood_clusters().empty()) result.ood = on_another_template(edit);
    if (subject_.choice_tokens() > 0) result.choices = on_choices(edit);
    repeat(headline, result);
    detect(method, result);
    place(edit, method, reference, result);
    return result;
  }

  Interval interval(const std::vector<double>& values, const std::vector<size_t>& clusters) const {
    return mean_interval(values, clusters, options_.bootstrap,
                         random_bits(options_.seed, kBootstrap, 0));
  }
  /// Of values that are independent.
  Interval interval(const std::vector<double>& values) const {
    std::vector<size_t> clusters(values.size());
    std::iota(clusters.begin(), clusters.end(), size_t{0});
    return interval(values, clusters);
  }
  /// Of how much further a method moves the items of the test than another one.
  Gain gain(const MethodResult& method, const MethodResult& over) const {
    const std::vector<double> differences = difference(shifts_of(method), shifts_of(over));
    const SignFlip flips = sign_flip(differences, subject_.clusters(Split::test),
                                     random_bits(options_.seed, kBootstrap, 1));
    return {over.name, flips.mean, flips.interval};
  }

 private:
  Level at_level(const Method& method, double level, const Dose& dose) const {
    const Edit edit = method.edit(dose.dose);
    Level result{
        .level = level, .dose = dose, .side_effect = measure_.side_effect(edit, Split::test)};
    result.shifts = measure_.shifts(edit, Split::test);
    result.effect = mean(result.shifts);
    result.interval = interval(result.shifts, subject_.clusters(Split::test));
    result.samples = subject_.samples(&edit);
    return result;
  }

  const std::vector<double>& shifts_of(const MethodResult& method) const {
    return headline_of(method, options_.headline).shifts;
  }

  OodEffect on_another_template(const Edit& edit) const {
    OodEffect result{.shifts = measure_.ood_shifts(edit)};
    result.effect = mean(result.shifts);
    result.interval = interval(result.shifts, subject_.ood_clusters());
    return result;
  }

  ChoiceAccuracy on_choices(const Edit& edit) const {
    const std::vector<double> right = measure_.choices_right(edit);
    const std::vector<double>& before = measure_.unedited_choices_right();
    return {.accuracy = mean(right),
            .change = mean(right) - mean(before),
            .interval = share_change_interval(before, right)};
  }

  void respond(const Method& method, const Level& headline, MethodResult& result) const {
    result.response_doses.assign(std::begin(kResponseDoses), std::end(kResponseDoses));
    std::vector<std::vector<double>> by_item(headline.shifts.size());
    for (const double share : result.response_doses) {
      // The middle is the model as it is: a latent set to 0 is already an edit.
      const std::vector<double> shifts =
          share == 0   ? std::vector<double>(by_item.size(), 0.0)
          : share == 1 ? headline.shifts
                       : measure_.shifts(method.edit(share * headline.dose.dose), Split::test);
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

  static void repeat(const Level& headline, MethodResult& result) {
    std::vector<double> distinct, repeated;
    for (const Sample& sample : headline.samples) {
      if (sample.tokens.size() < 4) continue;  // has no 4-gram
      distinct.push_back(distinct_ngrams(sample.tokens, 2));
      repeated.push_back(repeated_ngrams(sample.tokens, 4));
    }
    result.distinct2 = mean(distinct);
    result.repeated4 = mean(repeated);
  }

  void detect(const Method& method, MethodResult& result) const {
    const ContrastActivations& pairs = subject_.contrast(Split::test);
    const at::Tensor positive = readings(method, sae_, largest_, pairs.positive),
                     negative = readings(method, sae_, largest_, pairs.negative);
    result.accuracy = (at::gt(positive, negative).to(at::kDouble) +
                       0.5 * at::eq(positive, negative).to(at::kDouble))
                          .mean()
                          .item<double>();
    result.auroc = sae::auroc(to_vector(positive), to_vector(negative));
  }

  void place(const Edit& edit, const Method& method, const at::Tensor& reference,
             MethodResult& result) const {
    const at::Tensor& x = subject_.background();
    const at::Tensor y = edit.apply(x);
    const at::Tensor v = y - x;  // [rows, d]
    result.implicit = vyx::compare::summarise(v);
    result.dictionary = dictionary_.fit(result.implicit.mean);
    result.latent_changes = latent_changes(sae_, x, y, largest_, method.latents);
    const at::Tensor target =
        (reference.defined() ? reference : result.implicit.mean).to(at::kDouble);  // [d]
    const at::Tensor wide = v.to(at::kDouble);
    const std::vector<double> cosines =
        to_vector(wide.mv(target) / (wide.norm(2, {1}) * target.norm()).clamp_min(1e-30));
    for (const double q : {0.05, 0.5, 0.95}) result.token_cosines.push_back(quantile(cosines, q));
  }

  Measure& measure_;
  Subject& subject_;
  const sae::Autoencoder& sae_;
  const at::Tensor& largest_;  // [latents]
  const CompareOptions& options_;
  Dictionary dictionary_{sae_.weights.decoder};
};

void add_nulls(const Nulls& nulls, Comparison& comparison) {
  if (nulls.isotropic.empty()) return;
  std::vector<double> worst;  // a method's largest p; NaN for the control
  for (MethodResult& method : comparison.methods) {
    worst.push_back(kNaN);
    if (method.role != Role::method) continue;
    const double effect = headline_of(method, comparison.headline).effect;
    const auto against = [&](const char* name, const std::vector<double>& draws) {
      method.nulls.push_back({name, draws, null_p(effect, draws), null_z(effect, draws)});
      worst.back() = std::isnan(worst.back()) ? method.nulls.back().p
                                              : std::max(worst.back(), method.nulls.back().p);
    };
    const auto against_own = [&](const char* name,
                                 const std::map<std::string, std::vector<double>>& draws) {
      if (const auto found = draws.find(method.name); found != draws.end())
        against(name, found->second);
    };
    against("isotropic vectors", nulls.isotropic);
    against("covariance-matched vectors", nulls.covariance);
    against_own("shuffled labels", nulls.labels);
    against_own("random latents", nulls.latents);
    against_own("frozen random autoencoder", nulls.frozen);
  }
  const std::vector<double> adjusted = holm(worst);
  for (size_t i = 0; i < adjusted.size(); ++i) comparison.methods[i].p_adjusted = adjusted[i];
  double best = -std::numeric_limits<double>::infinity();
  for (const MethodResult& method : comparison.methods)
    if (method.role == Role::method && !method.ignores_sides)
      best = std::max(best, headline_of(method, comparison.headline).effect);
  comparison.global_null = nulls.any;
  comparison.global_p = null_p(best, nulls.any);
}

void measure_instructed(Subject& subject, const Trial& trial, Comparison& comparison) {
  comparison.instructed = subject.instructed();
  if (!comparison.instructed) return;
  const std::vector<double> shifts =
      difference(comparison.instructed->preference, subject.preference(Split::test, nullptr));
  comparison.instructed_effect = mean(shifts);
  comparison.instructed_interval = trial.interval(shifts, subject.clusters(Split::test));
  comparison.instructed_side_effect = summarise(comparison.instructed->neutral);
}

void measure_unedited_choices(Measure& measure, Comparison& comparison) {
  Subject& subject = measure.subject();
  if (subject.choice_tokens() == 0) return;
  const std::vector<double>& right = measure.unedited_choices_right();
  comparison.choice_items = static_cast<int64_t>(right.size());
  comparison.choice_chance = subject.choice_chance();
  comparison.unedited_accuracy = mean(right);
  comparison.unedited_accuracy_interval = share_interval(right);
}

}  // namespace

void validate(const CompareOptions& options) {
  if (options.levels.empty()) throw UsageError("found no KL level, expected at least one");
  for (const double level : options.levels)
    if (!(level > 0) || !std::isfinite(level))
      throw UsageError(fmt::format("a KL level of {}; expected positive nats", level));
  if (std::find(options.levels.begin(), options.levels.end(), options.headline) ==
      options.levels.end())
    throw UsageError(
        fmt::format("the headline's KL level is {}, expected one of the levels", options.headline));
  if (options.nulls < 0 || options.k < 1 || options.candidates < options.k || options.bootstrap < 1)
    throw UsageError(
        fmt::format("{} nulls, the best {} of {} candidates, {} resamples; expected 0 nulls or "
                    "more, 1 resample or more, and --best-k from 1 to --candidates",
                    options.nulls, options.k, options.candidates, options.bootstrap));
}

Plan plan(const Subject& subject, const CompareOptions& options) {
  // A search for the first dose takes some 4 runs of the neutral text, one from a dose that is
  // nearly right 3.
  constexpr uint64_t kLatentMethods = 2, kSearch = 4, kNear = 3;
  const auto all = steering::methods();
  const uint64_t directions = all.size();
  const auto shuffled = static_cast<uint64_t>(std::count_if(
      all.begin(), all.end(), [](const steering::Method& each) { return !each.ignores_sides; }));
  const uint64_t select = subject.preference_tokens(Split::selection),
                 test = subject.preference_tokens(Split::test);
  const uint64_t dose = subject.neutral_tokens(Split::selection),
                 side = subject.neutral_tokens(Split::test);
  const uint64_t levels = options.levels.size(),
                 candidates = static_cast<uint64_t>(options.candidates);
  const uint64_t choice = candidates * (select + dose);
  Plan plan;
  const uint64_t foreign = subject.others().size(),
                 methods = directions + kLatentMethods + 1 + foreign;
  plan.methods = choice +
                 methods * (levels * (kSearch * dose + side + test) + 3 * test +
                            subject.ood_tokens() + subject.choice_tokens()) +
                 subject.choice_tokens() + foreign * (kSearch * dose + select);
  const uint64_t each = kNear * dose + test;
  plan.nulls = static_cast<uint64_t>(options.nulls) *
               (2 * (each + select) + (shuffled + kLatentMethods) * each + choice +
                2 * (choice + kLatentMethods * each));
  return plan;
}

Comparison compare(Subject& subject, const sae::Autoencoder& sae, const CompareOptions& options) {
  validate(options);
  if (sae.config.d_in != subject.width() || !sae.config.target_sites.empty() ||
      sae.config.sites.size() > 1)
    fail(
        "{}: found an autoencoder of {} sites that reads {} and writes {} values{}, expected {} of "
        "this one site; give one that was trained here",
        subject.site(), sae.config.sites.size(), sae.config.d_in, sae.config.d_out,
        sae.config.target_sites.empty() ? "" : " elsewhere", subject.width());
  const at::NoGradGuard no_grad;
  const auto step = [&](const std::string& what) {
    if (options.on_step) options.on_step(what);
  };
  Comparison comparison{.site = subject.site(), .headline = options.headline};
  const at::Tensor& background = subject.background();
  comparison.median_norm = background.norm(2, {1}).median().item<double>();
  comparison.items = static_cast<int64_t>(subject.clusters(Split::test).size());
  comparison.ood_items = static_cast<int64_t>(subject.ood_clusters().size());

  const ContrastActivations& extraction = subject.contrast(Split::extraction);
  const ContrastActivations& selection = subject.contrast(Split::selection);
  const at::Tensor largest =
      largest_activations(sae, at::cat({background, extraction.positive, extraction.negative,
                                        selection.positive, selection.negative}));
  comparison.latents = sae.config.latents;
  comparison.firing_latents = (largest > 0).sum().item<int64_t>();
  if (comparison.firing_latents == 0)
    fail(
        "{}: found no latent that fires at this site, expected some; is the autoencoder for "
        "another model or site?",
        subject.site());

  const auto left_out = [&](const std::string& why) {
    comparison.notes.push_back("Left out: " + why);
  };
  Measure measure(subject, options);
  std::vector<Method> methods = extract_directions(
      {.pairs = extraction, .selection = selection, .median_norm = comparison.median_norm},
      left_out);
  step("choosing latents");
  LatentScores scores = latent_scores(measure, sae, largest);
  const at::Tensor slopes = subject.preference_slopes(Split::selection);  // [items, d]
  const at::Tensor slope = slopes.mean(0);                                // [d]
  for (Method& method : choose_latents(sae, largest,
                                       propose_latents(sae, selection.positive, selection.negative,
                                                       slope, largest, options.candidates),
                                       scores, options.k))
    methods.push_back(std::move(method));
  if (methods.empty())
    fail("{}: found no method that gives a direction or a latent; give more pairs", subject.site());
  methods.push_back(direction_method(
      kRandomDirection,
      isotropic_vectors(1, subject.width(), random_bits(options.seed, kRandomDirections, 0))[0],
      comparison.median_norm));
  methods.back().role = Role::random_control;
  step("vectors of other concepts");
  for (Method& method :
       foreign_methods(measure, comparison.median_norm, options.headline, left_out))
    methods.push_back(std::move(method));

  const Trial trial(measure, sae, largest, options);
  comparison.unedited = subject.samples(nullptr);
  measure_unedited_choices(measure, comparison);
  at::Tensor reference;  // v̄ of the first method [d]
  for (const Method& method : methods) {
    step(method.name);
    comparison.methods.push_back(trial.run(method, reference));
    if (!reference.defined()) reference = comparison.methods.front().implicit.mean;
  }
  for (const MethodResult& a : comparison.methods) {
    std::vector<double>& row = comparison.cosines.emplace_back();
    for (const MethodResult& b : comparison.methods)
      row.push_back(cosine(a.implicit.mean, b.implicit.mean));
  }
  const auto mean_direction =
      std::find_if(comparison.methods.begin(), comparison.methods.end(),
                   [](const MethodResult& method) { return method.name == kMean; });
  for (MethodResult& method : comparison.methods) {
    method.gain_over_mean = {kNaN, kNaN};
    if (mean_direction == comparison.methods.end() || method.name == mean_direction->name) continue;
    method.gain_over_mean = trial.gain(method, *mean_direction).interval;
  }
  for (MethodResult& method : comparison.methods) {
    if (method.role != Role::method) continue;
    for (const MethodResult& other : comparison.methods)
      if (other.role == Role::foreign_control)
        method.gain_over_foreign.push_back(trial.gain(method, other));
  }

  step("the prompt that asks for it");
  measure_instructed(subject, trial, comparison);

  std::map<std::string, double> doses;
  for (const MethodResult& method : comparison.methods)
    doses[method.name] = headline_of(method, options.headline).dose.dose;
  add_nulls(draw_nulls(measure,
                       {.sae = sae,
                        .largest = largest,
                        .slopes = slopes,
                        .scores = scores,
                        .median_norm = comparison.median_norm,
                        .doses = std::move(doses)},
                       options),
            comparison);

  comparison.rules = pass_rules(comparison);
  for (std::string& note : subject.notes()) comparison.notes.push_back(std::move(note));
  add_notes(options, comparison);
  comparison.tokens = measure.tokens();
  comparison.provenance = subject.provenance();
  return comparison;
}

}  // namespace vyx::compare
