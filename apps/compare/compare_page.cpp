#include "apps/compare/compare_page.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "apps/compare/nulls.h"
#include "apps/compare/rules.h"
#include "apps/compare/statistics.h"
#include "core/base/text.h"
#include "core/report/page.h"

namespace vyx::compare {
namespace {

using Table = std::vector<std::vector<std::string>>;

std::string signed_number(double value) {
  return std::isfinite(value) ? fmt::format("{:+.3f}", value) : "–";
}

std::string plain(double value, int digits = 3) {
  return std::isfinite(value) ? fmt::format("{:.{}f}", value, digits) : "–";
}

std::string with_interval(double value, const Interval& interval) {
  return fmt::format("{} [{}, {}]", signed_number(value), signed_number(interval.low),
                     signed_number(interval.high));
}

/// The range of all draws of a method's nulls; nullopt when there is no draw.
std::optional<Interval> null_range(const MethodResult& method) {
  std::optional<Interval> range;
  for (const NullResult& null : method.nulls.nulls)
    for (const double draw : null.draws)
      range = range ? Interval{std::min(range->low, draw), std::max(range->high, draw)}
                    : Interval{draw, draw};
  return range;
}

void draw_headline(const Comparison& comparison, Page& page) {
  IntervalChart chart{.title = fmt::format("Effect at a KL of {} nats", comparison.headline),
                      .label =
                          "nats per token: how much more the positive continuations are preferred; "
                          "line: 95 % interval; band: range of the nulls"};
  for (const MethodResult& method : comparison.methods) {
    const Level& level = headline_of(method, comparison.headline);
    const auto range = null_range(method);
    chart.rows.push_back({.name = method.name + (level.reached ? "" : " (level not reached)"),
                          .value = level.effect,
                          .low = level.interval.low,
                          .high = level.interval.high,
                          .band_low = range ? range->low : std::nan(""),
                          .band_high = range ? range->high : std::nan("")});
  }
  if (comparison.instructed)
    chart.rows.push_back({.name = fmt::format("the prompt (KL p95 {:.2f})",
                                              comparison.instructed_side_effect.kl_p95),
                          .value = comparison.instructed_effect,
                          .low = comparison.instructed_interval.low,
                          .high = comparison.instructed_interval.high,
                          .band_low = std::nan(""),
                          .band_high = std::nan("")});
  page.chart(chart);
}

void draw_curves(const Comparison& comparison, Page& page) {
  Chart effect{"Effect against side effect",
               "95th percentile of KL, nats (test half)",
               "effect, nats per token",
               {}};
  Chart response{"Effect against dose", "share of the headline dose", "effect, nats per token", {}};
  Chart dose{"Side effect against dose",
             "dose (directions: median norms; latents: of the largest activation)",
             "95th percentile of KL, nats (selection half)",
             {},
             true};
  for (const MethodResult& method : comparison.methods) {
    std::vector<std::pair<double, double>> points = {{0, 0}};
    for (const Level& level : method.levels)
      points.emplace_back(level.side_effect.kl_p95, level.effect);
    std::sort(points.begin(), points.end());
    Curve& curve = effect.curves.emplace_back(Curve{method.name, {}, {}});
    for (const auto& [kl, shift] : points) {
      curve.x.push_back(kl);
      curve.y.push_back(shift);
    }
    response.curves.push_back({method.name, method.response_doses, method.responses});
    Curve& cost = dose.curves.emplace_back(Curve{method.name, {}, {}});
    for (const DosePoint& point : method.curve) {
      cost.x.push_back(point.dose);
      cost.y.push_back(point.kl);
    }
  }
  page.chart(effect);
  page.chart(response);
  page.chart(dose);
}

void list_side_effects(const Comparison& comparison, Page& page) {
  Table rows;
  const auto row = [&](const std::string& name, const std::string& level, const std::string& dose,
                       const std::string& error, const std::string& effect,
                       const SideEffect& side) {
    rows.push_back({name, level, dose, error, effect, plain(side.kl_mean), plain(side.kl_p95),
                    plain(side.kl_max), plain(side.reverse_kl_mean), plain(side.reverse_kl_p95),
                    plain(side.reverse_kl_max), signed_number(side.loss_rise)});
  };
  for (const MethodResult& method : comparison.methods)
    for (const Level& level : method.levels)
      row(method.name,
          level.reached ? fmt::format("{}", level.level)
                        : fmt::format("{} (not reached)", level.level),
          plain(level.dose, 4), fmt::format("{:.0f} %", 100 * level.log_kl_error),
          with_interval(level.effect, level.interval), level.side_effect);
  if (comparison.instructed)
    row("the prompt", "–", "–", "–",
        with_interval(comparison.instructed_effect, comparison.instructed_interval),
        comparison.instructed_side_effect);
  page.table({"method", "KL level", "dose", "KL ±", "effect [95 %]", "KL mean", "p95", "max",
              "reverse mean", "p95", "max", "loss rise"},
             rows);
  page.paragraph(
      "KL(edited ‖ unedited) and its reverse in nats per token, and the rise of the cross-entropy, "
      "on the test half of the neutral text, read between the doses that were measured there. KL "
      "±: "
      "the standard error of the percentile that a dose is read from. A direction's dose is in "
      "units of the activations' "
      "median norm, a latent's is the value that it is set to, in units of its largest "
      "activation.");
  if (comparison.instructed)
    page.paragraph("The prompt: " + quote(comparison.instructed->instruction));
}

void list_what_else(const Comparison& comparison, Page& page) {
  std::vector<std::string> header = {"method",    "latents",    "other latents moved per token",
                                     "mean move", "ever moved", "turned on",
                                     "turned off"};
  if (!comparison.methods.empty())
    for (const OtherShift& other : comparison.methods.front().others)
      header.push_back("shift of " + other.name);
  header.insert(header.end(), {"distinct-2", "repeat-4"});
  Table rows;
  for (const MethodResult& method : comparison.methods) {
    const LatentChangeSummary& change = method.latent_changes;
    std::vector<std::string>& row = rows.emplace_back(std::vector<std::string>{
        method.name, fmt::format("{}", fmt::join(method.latents, ", ")), plain(change.moved, 1),
        plain(change.mean_move, 2), fmt::format("{}", change.ever), plain(change.turned_on, 1),
        plain(change.turned_off, 1)});
    for (const OtherShift& other : method.others)
      row.push_back(with_interval(other.shift, other.interval));
    row.push_back(plain(method.distinct2, 2));
    row.push_back(plain(method.repeated4, 2));
  }
  page.table(header, rows);
  if (!comparison.methods.empty())
    page.paragraph(
        fmt::format("At the headline dose. A latent counts as moved where it changes by more than "
                    "{:.0f} % of its largest activation; those that a method sets are left out.",
                    100 * comparison.methods.front().latent_changes.threshold));
}

std::string change_of_accuracy(const std::optional<ChoiceAccuracy>& choices) {
  return choices ? fmt::format("{:+.1f} [{:+.1f}, {:+.1f}]", 100 * choices->change,
                               100 * choices->interval.low, 100 * choices->interval.high)
                 : "–";
}

void show_what_holds(const Comparison& comparison, Page& page) {
  IntervalChart elsewhere{
      .title = "Effect on another template",
      .label =
          "nats per token; line: 95 % interval; band: from half of the effect on "
          "the test to all of it"};
  IntervalChart kept{.title = "Change of accuracy on the choice benchmark",
                     .label = fmt::format("points; line: 95 % interval; band: {:g} points down",
                                          100 * kAccuracyLoss)};
  Table rows;
  for (const MethodResult& method : comparison.methods) {
    const Level& headline = headline_of(method, comparison.headline);
    const std::string name = method.name + (method.role == Role::method ? "" : " (control)");
    if (method.ood)
      elsewhere.rows.push_back(
          {.name = name,
           .value = method.ood->effect,
           .low = method.ood->interval.low,
           .high = method.ood->interval.high,
           .band_low = std::min(headline.effect, kKeptElsewhere * headline.effect),
           .band_high = std::max(headline.effect, kKeptElsewhere * headline.effect)});
    if (method.choices)
      kept.rows.push_back({.name = name,
                           .value = 100 * method.choices->change,
                           .low = 100 * method.choices->interval.low,
                           .high = 100 * method.choices->interval.high,
                           .band_low = -100 * kAccuracyLoss,
                           .band_high = 0});
    std::vector<std::string> gains;
    for (const Gain& gain : method.gain_over_foreign)
      gains.push_back(fmt::format("{}: {}, p = {:.4f}", gain.over,
                                  with_interval(gain.difference, gain.interval), gain.p));
    rows.push_back({name, with_interval(headline.effect, headline.interval),
                    method.ood ? with_interval(method.ood->effect, method.ood->interval) : "–",
                    method.choices ? fmt::format("{:.1f} %", 100 * method.choices->accuracy) : "–",
                    change_of_accuracy(method.choices),
                    gains.empty() ? "–" : fmt::format("{}", fmt::join(gains, "; "))});
  }
  if (!elsewhere.rows.empty()) page.chart(elsewhere);
  if (!kept.rows.empty()) page.chart(kept);
  page.table({"method", "effect on the test [95 %]", "on another template", "choices right",
              "change, points", "more than foreign vectors"},
             rows);
  page.paragraph(comparison.ood_items > 0
                     ? fmt::format("At the headline dose. The other template has {} pairs, none of "
                                   "which was used to make or dose a method.",
                                   comparison.ood_items)
                     : "At the headline dose. No other template was given (--ood).");
  page.paragraph(
      comparison.choice_items > 0
          ? fmt::format("Of {} choices the unedited model gets {:.1f} % right (95 % interval "
                        "{:.1f} to {:.1f}), guessing {:.1f} %. The choice of the largest "
                        "log-probability per byte counts; changes are of the same items.",
                        comparison.choice_items, 100 * comparison.unedited_accuracy,
                        100 * comparison.unedited_accuracy_interval.low,
                        100 * comparison.unedited_accuracy_interval.high,
                        100 * comparison.choice_chance)
          : "No choice benchmark was given (--choices).");
  page.paragraph(
      "Controls have no pass rules. The mean of a foreign concept is made of the pairs that its "
      "own shift is measured on, and has the sign that moves this concept up on the selection "
      "split.");
}

void list_geometry(const Comparison& comparison, Page& page) {
  HeatMap map{.title = "Cosines of the mean implicit vectors"};
  for (const MethodResult& method : comparison.methods) map.names.push_back(method.name);
  map.values = comparison.cosines;
  page.chart(map);
  const auto rows_needed = [](const std::optional<int64_t>& rows) {
    return rows ? fmt::format("{}", *rows) : fmt::format("> {}", kMostRows);
  };
  Table rows;
  for (const MethodResult& method : comparison.methods) {
    std::vector<std::string> nearest;
    for (const NearestRow& row : method.dictionary.nearest)
      nearest.push_back(fmt::format("{} ({:+.2f})", row.latent, row.cosine));
    std::vector<std::string> cosines;
    for (const double cosine : method.token_cosines) cosines.push_back(plain(cosine, 2));
    rows.push_back(
        {method.name, plain(method.accuracy), plain(method.auroc),
         fmt::format("{:.1f} %", 100 * method.implicit.varying),
         fmt::format("{}", fmt::join(cosines, " / ")), rows_needed(method.dictionary.rows_for_half),
         rows_needed(method.dictionary.rows_for_most), plain(method.dictionary.outside_nearest, 2),
         plain(method.dictionary.outside_span, 3), fmt::format("{}", fmt::join(nearest, ", "))});
  }
  page.table(
      {"method", "pairs told apart", "AUROC", "varies over tokens",
       "cosine with the first method, tokens' p5 / p50 / p95", "rows for 50 %", "rows for 90 %",
       "outside 5 nearest", "outside span", "nearest decoder rows (cosine)"},
      rows);
}

void list_nulls(const Comparison& comparison, Page& page) {
  Table rows, meanings;
  for (const MethodResult& method : comparison.methods) {
    if (method.role != Role::method) continue;
    for (const NullResult& null : method.nulls.nulls)
      rows.push_back(
          {method.name, null.name, signed_number(null.observed),
           fmt::format("{}{}", null.draws.size(), null.stopped_early ? " (stopped early)" : ""),
           signed_number(quantile(null.draws, 0.5)), signed_number(quantile(null.draws, 1)),
           plain(null.z, 1), plain(null.p, 4), plain(method.nulls.p_adjusted, 4)});
    if (method.nulls.nulls.empty())
      rows.push_back({method.name, "none", "–", "–", "–", "–", "–", "–", "–"});
  }
  if (comparison.shared_draws == 0) {
    page.paragraph("None were drawn.");
    return;
  }
  page.table({"method", "null", "effect, dosed as draws are", "draws", "median", "largest", "z",
              "p", "p over methods"},
             rows);
  for (const Null& null : nulls())
    meanings.push_back(
        {std::string(null.name), std::string(null.replaces), std::string(null.hypothesis)});
  page.table({"null", "what it replaces", "what a small p speaks against"}, meanings);
  page.paragraph(fmt::format(
      "p over methods and the global p are of the null that drives all methods, by step-down max z "
      "over {} draws. That no method has an effect: p = {:.4f}.",
      comparison.shared_draws, comparison.global_p));
}

void list_rules(const Comparison& comparison, Page& page) {
  Table rows;
  for (const PassLine& line : comparison.rules)
    rows.push_back({line.method, line.rule, line.passed ? (*line.passed ? "pass" : "FAIL") : "–",
                    line.detail});
  page.table({"method", "rule", "", "numbers"}, rows);
}

void list_samples(const Comparison& comparison, Page& page) {
  Table rows;
  for (const Sample& sample : comparison.unedited)
    rows.push_back({"as it is", "0", sample.prompt, sample.text});
  for (const MethodResult& method : comparison.methods)
    for (const Level& level : method.levels)
      for (const Sample& sample : level.samples)
        rows.push_back({method.name, fmt::format("{}", level.level), sample.prompt, sample.text});
  if (rows.empty()) {
    page.paragraph("None were made.");
    return;
  }
  page.table({"method", "KL level", "prompt", "text (greedy)"}, rows);
}

void add_rows(const std::string& prefix, const Json& json, Table& rows) {
  if (json.is_object()) {
    for (const auto& [key, value] : json.items())
      add_rows(prefix.empty() ? key : prefix + "." + key, value, rows);
  } else if (json.is_array()) {
    for (size_t i = 0; i < json.size(); ++i)
      add_rows(fmt::format("{}.{}", prefix, i), json[i], rows);
  } else {
    rows.push_back({prefix, json.is_string() ? json.get<std::string>() : json.dump()});
  }
}

}  // namespace

std::string compare_page(const Comparison& comparison) {
  Page page("A control vector and an autoencoder's latents, at equal side effect");
  page.paragraph(
      fmt::format("Site {}; {} test pairs; {} of {} latents fire on the activations that were "
                  "looked at; {} tokens run.",
                  comparison.site, comparison.items, comparison.firing_latents, comparison.latents,
                  with_commas(comparison.tokens)));
  page.heading("Is PCA's direction an approximation of the autoencoder's implicit vector?");
  for (const std::string& sentence : answer(comparison)) page.paragraph(sentence);
  draw_headline(comparison, page);
  draw_curves(comparison, page);
  page.heading("Effect and side effect");
  list_side_effects(comparison, page);
  page.heading("What else moves");
  list_what_else(comparison, page);
  page.heading("Another template, a choice benchmark, foreign vectors");
  show_what_holds(comparison, page);
  page.heading("Geometry and detection");
  list_geometry(comparison, page);
  page.heading("Nulls");
  list_nulls(comparison, page);
  page.heading("The pass rule");
  list_rules(comparison, page);
  page.heading("Texts");
  list_samples(comparison, page);
  page.heading("What is not shown");
  for (const std::string& note : comparison.notes) page.paragraph(note);
  page.heading("Where it comes from");
  Table rows;
  add_rows("", comparison.provenance, rows);
  page.table({"what", "value"}, rows);
  return page.html();
}

}  // namespace vyx::compare
