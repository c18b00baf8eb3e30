#include "apps/compare/compare.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "apps/compare/foreign.h"
#include "apps/compare/language_files.h"
#include "apps/compare/rules.h"
#include "apps/compare/statistics.h"
#include "apps/compare/trial.h"
#include "core/base/error.h"
#include "core/base/random.h"
#include "core/base/version.h"
#include "core/io/digest.h"

namespace vyx::compare {
namespace {

constexpr uint64_t kRandomDirections = 204;  // a stream of the seed
constexpr int64_t kLatentRows = 1024;  // of background, over which latents' largest is looked up
constexpr size_t kFewestGroups = 8;    // that are swapped as wholes: fewer give too few swaps

void check_fit(const Subject& subject, const sae::Autoencoder& sae) {
  if (sae.config.d_in != subject.width() || !sae.config.target_sites.empty() ||
      sae.config.sites.size() > 1)
    fail(
        "{}: found an autoencoder of {} sites that reads {} and writes {} values{}, expected {} of "
        "this one site; give one that was trained here",
        subject.site(), sae.config.sites.size(), sae.config.d_in, sae.config.d_out,
        sae.config.target_sites.empty() ? "" : " elsewhere", subject.width());
}

/// Activations over which latents' largest is looked up, for the autoencoder and each that stands
/// in its place [rows, d].
at::Tensor latent_rows(const Subject& subject) {
  const at::Tensor& background = subject.background();
  const int64_t step = std::max<int64_t>(1, background.size(0) / kLatentRows);
  const ContrastActivations &extraction = subject.contrast(Split::extraction),
                            &selection = subject.contrast(Split::selection);
  return at::cat({background.slice(0, 0, background.size(0), step), extraction.positive,
                  extraction.negative, selection.positive, selection.negative});
}

/// Groups of pairs that are swapped together.
std::vector<size_t> swap_groups(const Subject& subject, Split split) {
  std::vector<size_t> groups = subject.contrast_groups(split);
  std::vector<size_t> distinct = groups;
  std::sort(distinct.begin(), distinct.end());
  const auto count = std::unique(distinct.begin(), distinct.end()) - distinct.begin();
  if (static_cast<size_t>(count) < kFewestGroups)
    for (size_t i = 0; i < groups.size(); ++i) groups[i] = i;
  return groups;
}

Method random_direction(const Subject& subject, double median_norm, uint64_t seed) {
  Method method = direction_method(
      kRandomDirection,
      at::randn({subject.width()},
                at::detail::createCPUGenerator(random_bits(seed, kRandomDirections, 0)),
                at::TensorOptions(at::kDouble)),
      median_norm);
  method.role = Role::random_control;
  return method;
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

void compare_with_each_other(const Trial& trial, Comparison& comparison) {
  for (const MethodResult& a : comparison.methods) {
    std::vector<double>& row = comparison.cosines.emplace_back();
    for (const MethodResult& b : comparison.methods)
      row.push_back(cosine(a.implicit.mean, b.implicit.mean));
  }
  const MethodResult* const mean_direction = find_method(comparison, kMean);
  for (MethodResult& method : comparison.methods) {
    if (mean_direction != nullptr && &method != mean_direction)
      method.gain_over_mean = trial.gain(method, *mean_direction);
    if (method.role != Role::method) continue;
    for (const MethodResult& other : comparison.methods)
      if (other.role == Role::foreign_control)
        method.gain_over_foreign.push_back(trial.gain(method, other));
  }
}

/// What kept draws must agree in: all that a draw depends on.
std::string draws_digest(const Subject& subject, const sae::Autoencoder& sae,
                         const RoadOptions& road, uint64_t seed) {
  return sha256(Json{
      {"vyx_version", kVersion},
      {"site", subject.site()},
      {"subject", subject.provenance()},
      {"sae", provenance_of(sae, "")},
      {"k", road.k},
      {"candidates", road.candidates},
      {"level", road.level},
      {"first_dose", road.first_doses.at(Family::direction)},
      {"seed",
       seed}}.dump());
}

void test_nulls(Measure& measure, RoadInput input, const at::Tensor& rows, const RoadOptions& road,
                const CompareOptions& options, Comparison& comparison) {
  if (options.nulls == 0) return;
  Subject& subject = measure.subject();
  NullSource source{.input = std::move(input),
                    .spread = spread_of(subject.background()),
                    .rows = rows,
                    .extraction_groups = swap_groups(subject, Split::extraction),
                    .selection_groups = swap_groups(subject, Split::selection),
                    .seed = options.seed};
  for (size_t i = 0; i < subject.others().size(); ++i)
    source.foreign.push_back(subject.other_contrast(i));
  KeptDraws kept(options.draws,
                 draws_digest(subject, source.input.latents->sae, road, options.seed),
                 options.on_message);
  NullTests tests = draw_nulls(
      measure, source, {.draws = options.nulls, .road = road, .on_step = options.on_step}, kept);
  comparison.global_p = tests.global_p;
  comparison.shared_draws = static_cast<int64_t>(tests.shared.size());
  for (MethodResult& method : comparison.methods)
    for (MethodNulls& nulls : tests.methods)
      if (method.role == Role::method && method.name == nulls.method)
        method.nulls = std::move(nulls);
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

Comparison compare(Subject& subject, const sae::Autoencoder& sae, const CompareOptions& options) {
  validate(options);
  check_fit(subject, sae);
  const at::NoGradGuard no_grad;
  const auto step = [&](const std::string& what) {
    if (options.on_step) options.on_step(what);
  };
  Comparison comparison{.site = subject.site(), .headline = options.headline};
  const auto left_out = [&](const std::string& why) {
    comparison.notes.push_back("Left out: " + why);
  };
  comparison.median_norm = subject.background().norm(2, {1}).median().item<double>();
  comparison.items = static_cast<int64_t>(subject.clusters(Split::test).size());
  comparison.ood_items = static_cast<int64_t>(subject.ood_clusters().size());

  const at::Tensor rows = latent_rows(subject);
  RoadInput input{.extraction = subject.contrast(Split::extraction),
                  .selection = subject.contrast(Split::selection),
                  .latents = latents_over(sae, rows),
                  .slope = subject.preference_slopes(Split::selection).mean(0),
                  .median_norm = comparison.median_norm};
  comparison.latents = sae.config.latents;
  comparison.firing_latents = (input.latents->largest > 0).sum().item<int64_t>();
  if (comparison.firing_latents == 0)
    fail(
        "{}: found no latent that fires at this site, expected some; is the autoencoder for "
        "another model or site?",
        subject.site());
  input.directions = find_directions(input, {}, left_out);

  Measure measure(subject, options.on_tokens);
  RoadOptions road{.k = options.k, .candidates = options.candidates, .level = options.headline};
  const Latents& latents = *input.latents;
  const Trial trial(measure, latents, options);
  step("choosing latents");
  const std::vector<Method> methods = choose(measure, input, propose(input, road), road);
  if (methods.empty())
    fail("{}: found no method that gives a direction or a latent; give more pairs", subject.site());
  const at::Tensor reference =
      implicit_vector(methods.front().edit(1), subject.background()).mean(0);  // [d]
  // Doses are looked for first on the sample, for the lowest level.
  RoadOptions lowest = road;
  lowest.level = *std::min_element(options.levels.begin(), options.levels.end());
  const auto measured = [&](const Method& method) {
    step(method.name);
    return trial.run(method, sample_doses(measure, {method}, lowest).front(), reference);
  };
  // The control comes first: its dose knows nothing of the concept, and draws begin there.
  MethodResult control = measured(random_direction(subject, comparison.median_norm, options.seed));
  road.first_doses[Family::direction] = headline_of(control, options.headline).dose;
  comparison.unedited = subject.samples(nullptr);
  measure_unedited_choices(measure, comparison);
  for (const Method& method : methods) comparison.methods.push_back(measured(method));
  comparison.methods.push_back(std::move(control));
  step("vectors of other concepts");
  for (const Method& method : foreign_methods(measure, comparison.median_norm, road, left_out))
    comparison.methods.push_back(measured(method));
  compare_with_each_other(trial, comparison);
  step("the prompt that asks for it");
  measure_instructed(subject, trial, comparison);
  test_nulls(measure, input, rows, road, options, comparison);

  comparison.rules = pass_rules(comparison);
  for (std::string& note : subject.notes()) comparison.notes.push_back(std::move(note));
  add_notes(options, comparison);
  comparison.tokens = measure.tokens();
  comparison.provenance = subject.provenance();
  return comparison;
}

}  // namespace vyx::compare
