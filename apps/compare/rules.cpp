#include "apps/compare/rules.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "apps/compare/nulls.h"

namespace vyx::compare {
namespace {

constexpr double kConfidence = 0.95;     // of intervals
constexpr double kNearlyParallel = 0.9;  // |cosine|, for words
constexpr double kByChance = 3;  // standard deviations of the cosine of two random directions

/// Whether an interval is above 0; nullopt when there are too few clusters for one.
std::optional<bool> above_0(const Interval& interval) {
  return std::isnan(interval.low) ? std::nullopt : std::optional(interval.low > 0);
}

const NullResult* find_null(const MethodResult& method, std::string_view name) {
  const auto& nulls = method.nulls.nulls;
  const auto found = std::find_if(nulls.begin(), nulls.end(),
                                  [&](const NullResult& null) { return null.name == name; });
  return found == nulls.end() ? nullptr : &*found;
}

PassLine null_line(const MethodResult& method, const NullResult& null) {
  PassLine line{method.name, fmt::format("p <= {} against {}", kLevelOfSignificance, null.name),
                null.p <= kLevelOfSignificance, ""};
  if (null.p > kLevelOfSignificance && null.least_p > kLevelOfSignificance &&
      null.p <= null.least_p) {
    line.passed.reset();
    line.detail =
        fmt::format("p = {:.3f}, the least that {} draws can show", null.p, null.draws.size());
    return line;
  }
  line.detail = fmt::format(
      "p = {:.3f}, z = {:.1f}, {:+.3f} against the largest of {} draws{} {:+.3f}", null.p, null.z,
      null.observed, null.draws.size(), null.stopped_early ? " (stopped early)" : "",
      *std::max_element(null.draws.begin(), null.draws.end()));
  return line;
}

std::string gain_text(const Gain& gain) {
  return fmt::format("difference to {} {:+.3f} [{:+.3f}, {:+.3f}], p = {:.4f}", gain.over,
                     gain.difference, gain.interval.low, gain.interval.high, gain.p);
}

PassLine foreign_line(const MethodResult& method) {
  const std::string rule = "moves the concept more than any foreign concept's vector";
  if (method.gain_over_foreign.empty()) return {method.name, rule, std::nullopt, "not measured"};
  const Gain& least = *std::min_element(
      method.gain_over_foreign.begin(), method.gain_over_foreign.end(),
      [](const Gain& a, const Gain& b) { return a.interval.low < b.interval.low; });
  return {method.name, rule, above_0(least.interval), gain_text(least)};
}

PassLine template_line(const MethodResult& method, double effect) {
  const std::string rule = "keeps at least half of its effect on another template";
  if (!method.ood) return {method.name, rule, std::nullopt, "not measured"};
  const std::string numbers =
      fmt::format("{:+.3f} [{:+.3f}, {:+.3f}] there, {:+.3f} on the test", method.ood->effect,
                  method.ood->interval.low, method.ood->interval.high, effect);
  if (!(effect > 0)) return {method.name, rule, std::nullopt, "no effect to keep: " + numbers};
  return {method.name, rule, method.ood->effect >= kKeptElsewhere * effect, numbers};
}

PassLine choice_line(const MethodResult& method, int64_t items) {
  const std::string rule =
      fmt::format("accuracy loss on the choice benchmark within {:g} points", 100 * kAccuracyLoss);
  if (!method.choices) return {method.name, rule, std::nullopt, "not measured"};
  const auto& [accuracy, change, interval] = *method.choices;
  const std::string numbers =
      fmt::format("{:.1f} %, {:+.1f} points [{:+.1f}, {:+.1f}]", 100 * accuracy, 100 * change,
                  100 * interval.low, 100 * interval.high);
  // With n items, a true loss of up to 1 − .025^(1/n) still shows none once in 40 times.
  const double unseen = 1 - std::pow((1 - kConfidence) / 2, 1 / static_cast<double>(items));
  if (std::min(interval.low, -unseen) >= -kAccuracyLoss) return {method.name, rule, true, numbers};
  if (change < -kAccuracyLoss) return {method.name, rule, false, numbers};
  return {method.name, rule, std::nullopt,
          fmt::format("{}: not shown with {} items", numbers, items)};
}

void note_nulls(const CompareOptions& options, Comparison& comparison) {
  const auto note = [&](std::string text) { comparison.notes.push_back(std::move(text)); };
  if (options.nulls == 0) {
    note("No nulls were drawn: nothing here says what chance alone gives.");
    return;
  }
  note(fmt::format("With {} null draws, no p below {:.4f} can be shown{}.", options.nulls,
                   1 / static_cast<double>(1 + options.nulls),
                   options.nulls < 99 ? "; p <= .01 needs 99" : ""));
  bool stopped = false;
  std::map<std::string, std::vector<std::string>> without;  // methods, by null
  for (const Null& null : nulls())
    for (const MethodResult& method : comparison.methods) {
      if (method.role != Role::method) continue;
      const NullResult* const found = find_null(method, null.name);
      if (found == nullptr) without[std::string(null.name)].push_back(method.name);
      stopped = stopped || (found != nullptr && found->stopped_early);
    }
  for (const auto& [null, methods] : without)
    note(fmt::format("{}: not valid, or nothing to draw from, for {}.", null,
                     fmt::join(methods, ", ")));
  if (stopped)
    note(
        "Draws that drive one method alone stop when 10 of them have reached its effect: its p "
        "could become small no more (Besag and Clifford 1991).");
  note(
      "A null's p compares a method with draws that were dosed on few tokens, and so was the "
      "method for it: the effect there differs a little from the one that is reported.");
}

/// `chance`: the standard deviation of the cosine of two random directions.
std::string relation(double cosine, double chance) {
  const double size = std::fabs(cosine);
  return size >= kNearlyParallel      ? "nearly parallel"
         : size <= kByChance * chance ? "as unrelated as random ones"
                                      : "partly aligned";
}

}  // namespace

const MethodResult* find_method(const Comparison& comparison, std::string_view name) {
  const auto found = std::find_if(comparison.methods.begin(), comparison.methods.end(),
                                  [&](const auto& method) { return method.name == name; });
  return found == comparison.methods.end() ? nullptr : &*found;
}

const Level& headline_of(const MethodResult& method, double headline) {
  return *std::find_if(method.levels.begin(), method.levels.end(),
                       [&](const Level& level) { return level.level == headline; });
}

std::vector<PassLine> pass_rules(const Comparison& comparison) {
  std::vector<PassLine> lines;
  for (const MethodResult& method : comparison.methods) {
    if (method.role != Role::method) continue;
    const Level& headline = headline_of(method, comparison.headline);
    const auto rule = [&](std::string text, std::optional<bool> passed, std::string detail) {
      lines.push_back({method.name, std::move(text), passed, std::move(detail)});
    };
    rule("the KL level is reached", headline.reached,
         fmt::format("KL p95 {:.3f} on the test half at dose {:.4g}, {:.3f} on the selection half "
                     "at {:.4g}",
                     headline.side_effect.kl_p95, headline.dose, headline.found.kl,
                     headline.found.dose));
    rule("95 % interval of the effect above 0", above_0(headline.interval),
         fmt::format("{:+.3f} [{:+.3f}, {:+.3f}]", headline.effect, headline.interval.low,
                     headline.interval.high));
    for (const NullResult& null : method.nulls.nulls) lines.push_back(null_line(method, null));
    if (method.nulls.nulls.empty())
      rule("beyond chance", std::nullopt, "no null was drawn that is valid for it");
    rule("the wrong sign moves the other way", method.wrong_sign < 0,
         fmt::format("{:+.3f}", method.wrong_sign));
    rule(fmt::format("at most {:g} % of items steer the wrong way", 100 * kAntiSteerable),
         method.anti_steerable <= kAntiSteerable,
         fmt::format("{:.0f} %", 100 * method.anti_steerable));
    rule(fmt::format("loss on neutral text rises by at most {:g} nats per token", kLossRise),
         headline.side_effect.loss_rise <= kLossRise,
         fmt::format("{:+.4f}", headline.side_effect.loss_rise));
    if (method.gain_over_mean)
      rule("beats the mean direction at equal KL", above_0(method.gain_over_mean->interval),
           gain_text(*method.gain_over_mean));
    else
      rule("beats the mean direction at equal KL", std::nullopt,
           "is the mean direction, or there is none");
    lines.push_back(foreign_line(method));
    lines.push_back(template_line(method, headline.effect));
    lines.push_back(choice_line(method, comparison.choice_items));
  }
  return lines;
}

void add_notes(const CompareOptions& options, Comparison& comparison) {
  const auto note = [&](std::string text) { comparison.notes.push_back(std::move(text)); };
  for (const MethodResult& method : comparison.methods)
    for (const Level& level : method.levels)
      if (!level.reached)
        note(fmt::format(
            "{}: a KL of {} nats was not reached; the nearest dose, {:.4g}, gives {:.4f} on the "
            "selection half and {:.4f} on the test half.",
            method.name, level.level, level.dose, level.found.kl, level.side_effect.kl_p95));
  note_nulls(options, comparison);
  note(fmt::format(
      "The effect is a log-probability difference of {} pairs of continuations, teacher-forced. It "
      "is no judgement of texts that the model writes{}.",
      comparison.items, comparison.ood_items > 0 ? "" : ", and no other template was tried"));
  if (comparison.choice_items == 0)
    note(
        "What the methods do to what the model knows was not measured: no choice benchmark was "
        "given.");
  if (comparison.choice_items > 0 &&
      comparison.unedited_accuracy_interval.low <= comparison.choice_chance)
    note(
        fmt::format("The unedited model answers {:.1f} % of the choice benchmark, and guessing "
                    "gives {:.1f} %: it cannot show a loss.",
                    100 * comparison.unedited_accuracy, 100 * comparison.choice_chance));
  note(
      "That a method moves the concept does not make its direction the model's own representation: "
      "directions that carry an effect are not unique (arXiv:2602.06801).");
  note(
      "A latent's label is what it does here; whether an autoencoder of another seed finds the "
      "same "
      "latent was not tried.");
}

std::vector<std::string> answer(const Comparison& comparison) {
  std::vector<std::string> sentences;
  const MethodResult* const single = find_method(comparison, kSingleLatent);
  const MethodResult* const several = find_method(comparison, kBestLatents);
  const MethodResult* const pca = find_method(comparison, kPcaCenter);
  if (pca == nullptr || single == nullptr || several == nullptr) {
    sentences.push_back(
        "The question cannot be answered: PCA's direction or the latents are missing.");
    return sentences;
  }
  const auto place = [&](const MethodResult* method) {
    return static_cast<size_t>(method - comparison.methods.data());
  };
  for (const MethodResult* latent : {single, several}) {
    const double cosine = comparison.cosines[place(pca)][place(latent)];
    const double chance = 1 / std::sqrt(static_cast<double>(latent->implicit.mean.size(0)));
    sentences.push_back(fmt::format(
        "PCA's direction and the implicit vector of the {} (latent{} {}) are {}: cosine {:.3f} "
        "with its mean over tokens, where random directions have {:.3f} as a standard deviation; "
        "{:.0f} % of that vector's energy varies from token to token.",
        latent->name, latent->latents.size() == 1 ? "" : "s", fmt::join(latent->latents, ", "),
        relation(cosine, chance), cosine, chance, 100 * latent->implicit.varying));
  }
  const auto effect = [&](const MethodResult& method) {
    const Level& level = headline_of(method, comparison.headline);
    return fmt::format("{} {:+.3f} [{:+.3f}, {:+.3f}]{}", method.name, level.effect,
                       level.interval.low, level.interval.high,
                       level.reached ? "" : " (level not reached)");
  };
  sentences.push_back(
      fmt::format("At the same side effect (95th percentile of KL {} nats) the concept moves, in "
                  "nats per token: {}; {}; {}.",
                  comparison.headline, effect(*pca), effect(*single), effect(*several)));
  for (const MethodResult* method : {pca, single, several}) {
    std::vector<std::string> others;
    for (const OtherShift& other : method->others)
      others.push_back(fmt::format("{} {:+.3f}", other.name, other.shift));
    std::vector<std::string> near;
    for (size_t i = 0; i < std::min<size_t>(3, method->dictionary.nearest.size()); ++i)
      near.push_back(fmt::format("{} ({:+.2f})", method->dictionary.nearest[i].latent,
                                 method->dictionary.nearest[i].cosine));
    sentences.push_back(fmt::format(
        "What else {} moves: {:.1f} other latents per token by more than {:.0f} % of their largest "
        "activation; other concepts: {}. Its nearest decoder rows: {}.",
        method->name, method->latent_changes.moved, 100 * method->latent_changes.threshold,
        others.empty() ? "none measured" : fmt::format("{}", fmt::join(others, ", ")),
        fmt::join(near, ", ")));
  }
  if (comparison.ood_items > 0) {
    const auto elsewhere = [](const MethodResult& method) {
      return fmt::format("{} {:+.3f} [{:+.3f}, {:+.3f}]", method.name, method.ood->effect,
                         method.ood->interval.low, method.ood->interval.high);
    };
    sentences.push_back(fmt::format("On another template ({} pairs): {}; {}; {}.",
                                    comparison.ood_items, elsewhere(*pca), elsewhere(*single),
                                    elsewhere(*several)));
  }
  if (comparison.choice_items > 0) {
    const auto change = [](const MethodResult& method) {
      return fmt::format("{} {:+.1f} [{:+.1f}, {:+.1f}]", method.name, 100 * method.choices->change,
                         100 * method.choices->interval.low, 100 * method.choices->interval.high);
    };
    sentences.push_back(fmt::format(
        "Of {} choices the unedited model gets {:.1f} % right, and guessing {:.1f} %; that changes "
        "by points: {}; {}; {}.",
        comparison.choice_items, 100 * comparison.unedited_accuracy, 100 * comparison.choice_chance,
        change(*pca), change(*single), change(*several)));
  }
  if (!pca->gain_over_foreign.empty()) {
    std::vector<std::string> foreign;
    for (const MethodResult& method : comparison.methods)
      if (method.role == Role::foreign_control) foreign.push_back(effect(method));
    sentences.push_back(
        fmt::format("Vectors of foreign concepts, dosed alike: {}.", fmt::join(foreign, "; ")));
  }
  return sentences;
}

}  // namespace vyx::compare
