#include "apps/compare/report.h"

#include <fmt/format.h>

#include <cmath>

#include "apps/compare/compare_page.h"
#include "apps/compare/rules.h"
#include "core/base/json_number.h"
#include "core/base/version.h"
#include "core/io/files.h"
#include "core/report/csv.h"

namespace vyx::compare {
namespace {

Json numbers(const std::vector<double>& values) {
  Json json = Json::array();
  for (const double value : values) json.push_back(number_or_null(value));
  return json;
}

template <class Values, class Convert>
Json list_of(const Values& values, Convert&& convert) {
  Json json = Json::array();
  for (const auto& value : values) json.push_back(convert(value));
  return json;
}

Json to_json(const Interval& interval) {
  return Json::array({number_or_null(interval.low), number_or_null(interval.high)});
}

Json to_json(const SideEffect& effect) {
  return {{"kl_mean", number_or_null(effect.kl_mean)},
          {"kl_p95", number_or_null(effect.kl_p95)},
          {"kl_max", number_or_null(effect.kl_max)},
          {"reverse_kl_mean", number_or_null(effect.reverse_kl_mean)},
          {"reverse_kl_p95", number_or_null(effect.reverse_kl_p95)},
          {"reverse_kl_max", number_or_null(effect.reverse_kl_max)},
          {"loss_rise", number_or_null(effect.loss_rise)}};
}

Json to_json(const Sample& sample) {
  return {{"prompt", sample.prompt}, {"text", sample.text}};
}

Json samples_json(const std::vector<Sample>& samples) {
  return list_of(samples, [](const Sample& sample) { return to_json(sample); });
}

Json to_json(const Level& level) {
  return {
      {"level", level.level},
      {"dose", number_or_null(level.dose)},
      {"reached", level.reached},
      {"log_kl_error", number_or_null(level.log_kl_error)},
      {"selection",
       {{"dose", number_or_null(level.found.dose)}, {"kl_p95", number_or_null(level.found.kl)}}},
      {"effect", number_or_null(level.effect)},
      {"interval", to_json(level.interval)},
      {"shifts", numbers(level.shifts)},
      {"side_effect", to_json(level.side_effect)},
      {"samples", samples_json(level.samples)}};
}

Json to_json(const Gain& gain) {
  return {{"over", gain.over},
          {"difference", number_or_null(gain.difference)},
          {"interval", to_json(gain.interval)},
          {"p", number_or_null(gain.p)}};
}

Json to_json(const NullResult& null) {
  return {{"name", null.name},
          {"replaces", null.replaces},
          {"hypothesis", null.hypothesis},
          {"observed", number_or_null(null.observed)},
          {"p", number_or_null(null.p)},
          {"z", number_or_null(null.z)},
          {"stopped_early", null.stopped_early},
          {"draws", numbers(null.draws)}};
}

Json to_json(const OodEffect& ood) {
  return {{"effect", number_or_null(ood.effect)},
          {"interval", to_json(ood.interval)},
          {"shifts", numbers(ood.shifts)}};
}

Json to_json(const ChoiceAccuracy& choices) {
  return {{"accuracy", number_or_null(choices.accuracy)},
          {"change", number_or_null(choices.change)},
          {"interval", to_json(choices.interval)}};
}

Json to_json(const DictionaryFit& fit) {
  const auto rows = [](const std::optional<int64_t>& count) {
    return count ? Json(*count) : Json(nullptr);
  };
  return {{"nearest",
           list_of(fit.nearest,
                   [](const NearestRow& row) {
                     return Json{{"latent", row.latent}, {"cosine", number_or_null(row.cosine)}};
                   })},
          {"rows_for_half", rows(fit.rows_for_half)},
          {"rows_for_90_percent", rows(fit.rows_for_most)},
          {"outside_nearest", number_or_null(fit.outside_nearest)},
          {"outside_span", number_or_null(fit.outside_span)}};
}

Json to_json(const MethodResult& method) {
  return {
      {"name", method.name},
      {"family", name_of(method.family)},
      {"control", method.role != Role::method},
      {"dose_unit", dose_unit(method.family)},
      {"latents", method.latents},
      {"curve", list_of(method.curve,
                        [](const DosePoint& point) {
                          return Json{{"dose", point.dose}, {"kl_p95", number_or_null(point.kl)}};
                        })},
      {"levels", list_of(method.levels, [](const Level& level) { return to_json(level); })},
      {"response",
       {{"doses", numbers(method.response_doses)}, {"effects", numbers(method.responses)}}},
      {"anti_steerable", number_or_null(method.anti_steerable)},
      {"spearman", number_or_null(method.spearman)},
      {"wrong_sign", number_or_null(method.wrong_sign)},
      {"others", list_of(method.others,
                         [](const OtherShift& other) {
                           return Json{{"name", other.name},
                                       {"shift", number_or_null(other.shift)},
                                       {"interval", to_json(other.interval)}};
                         })},
      {"other_latents",
       {{"threshold", method.latent_changes.threshold},
        {"moved_per_token", number_or_null(method.latent_changes.moved)},
        {"mean_move", number_or_null(method.latent_changes.mean_move)},
        {"moved_ever", method.latent_changes.ever},
        {"turned_on_per_token", number_or_null(method.latent_changes.turned_on)},
        {"turned_off_per_token", number_or_null(method.latent_changes.turned_off)}}},
      {"repetition",
       {{"distinct_2", number_or_null(method.distinct2)},
        {"repeated_4", number_or_null(method.repeated4)}}},
      {"detection",
       {{"accuracy", number_or_null(method.accuracy)}, {"auroc", number_or_null(method.auroc)}}},
      {"implicit_vector",
       {{"mean_norm", number_or_null(method.implicit.mean_norm)},
        {"norm_of_mean", number_or_null(method.implicit.mean.norm().item<double>())},
        {"varying_share", number_or_null(method.implicit.varying)},
        {"cosine_with_first_method_per_token", numbers(method.token_cosines)}}},
      {"dictionary", to_json(method.dictionary)},
      {"ood", method.ood ? to_json(*method.ood) : Json(nullptr)},
      {"choices", method.choices ? to_json(*method.choices) : Json(nullptr)},
      {"gain_over_mean", method.gain_over_mean ? to_json(*method.gain_over_mean) : Json(nullptr)},
      {"gain_over_foreign",
       list_of(method.gain_over_foreign, [](const Gain& gain) { return to_json(gain); })},
      {"nulls", list_of(method.nulls.nulls, [](const NullResult& null) { return to_json(null); })},
      {"p_adjusted", number_or_null(method.nulls.p_adjusted)}};
}

}  // namespace

Json to_json(const Comparison& comparison) {
  Json json{
      {"vyx_version", kVersion},
      {"site", comparison.site},
      {"headline_kl", comparison.headline},
      {"median_norm", number_or_null(comparison.median_norm)},
      {"latents", comparison.latents},
      {"firing_latents", comparison.firing_latents},
      {"test_items", comparison.items},
      {"ood_items", comparison.ood_items},
      {"choices", comparison.choice_items == 0
                      ? Json(nullptr)
                      : Json{{"items", comparison.choice_items},
                             {"chance", number_or_null(comparison.choice_chance)},
                             {"accuracy", number_or_null(comparison.unedited_accuracy)},
                             {"interval", to_json(comparison.unedited_accuracy_interval)}}},
      {"tokens_run", comparison.tokens},
      {"answer", answer(comparison)},
      {"methods",
       list_of(comparison.methods, [](const MethodResult& method) { return to_json(method); })},
      {"cosines", list_of(comparison.cosines, numbers)},
      {"unedited", samples_json(comparison.unedited)},
      {"global_null",
       {{"draws", comparison.shared_draws}, {"p", number_or_null(comparison.global_p)}}},
      {"rules", list_of(comparison.rules,
                        [](const PassLine& line) {
                          return Json{{"method", line.method},
                                      {"rule", line.rule},
                                      {"passed", line.passed ? Json(*line.passed) : Json(nullptr)},
                                      {"detail", line.detail}};
                        })},
      {"notes", comparison.notes},
      {"provenance", comparison.provenance}};
  if (comparison.instructed)
    json["prompt"] = {{"instruction", comparison.instructed->instruction},
                      {"effect", number_or_null(comparison.instructed_effect)},
                      {"interval", to_json(comparison.instructed_interval)},
                      {"side_effect", to_json(comparison.instructed_side_effect)}};
  return json;
}

std::string to_csv(const Comparison& comparison) {
  constexpr std::string_view kLineEnd = "\n";
  std::string text =
      csv_record({"method",          "family",         "kl_level",   "dose",
                  "reached",         "effect",         "low",        "high",
                  "kl_mean",         "kl_p95",         "kl_max",     "reverse_kl_p95",
                  "loss_rise",       "anti_steerable", "accuracy",   "auroc",
                  "control",         "ood_effect",     "ood_low",    "ood_high",
                  "choice_accuracy", "choice_change",  "choice_low", "choice_high",
                  "log_kl_error",    "p_adjusted"},
                 kLineEnd);
  for (const MethodResult& method : comparison.methods)
    for (const Level& level : method.levels) {
      std::vector<std::string> fields{method.name, std::string(name_of(method.family))};
      const auto add = [&](const auto&... values) {
        (fields.push_back(fmt::format("{}", values)), ...);
      };
      const auto skip = [&](size_t count) { fields.resize(fields.size() + count); };
      const SideEffect& side = level.side_effect;
      add(level.level, level.dose, level.reached, level.effect, level.interval.low,
          level.interval.high, side.kl_mean, side.kl_p95, side.kl_max, side.reverse_kl_p95,
          side.loss_rise, method.anti_steerable, method.accuracy, method.auroc,
          method.role != Role::method);
      if (const auto& ood = method.ood)
        add(ood->effect, ood->interval.low, ood->interval.high);
      else
        skip(3);
      if (const auto& choices = method.choices)
        add(choices->accuracy, choices->change, choices->interval.low, choices->interval.high);
      else
        skip(4);
      add(level.log_kl_error);
      if (std::isfinite(method.nulls.p_adjusted))
        add(method.nulls.p_adjusted);
      else
        skip(1);
      text += csv_record(fields, kLineEnd);
    }
  return text;
}

ReportPaths report_paths(const std::filesystem::path& folder) {
  return {folder / "compare.json", folder / "compare.csv", folder / "compare.html"};
}

ReportPaths write_report(const Comparison& comparison, const std::filesystem::path& folder) {
  make_folder(folder);
  ReportPaths paths = report_paths(folder);
  write_file(paths.json,
             to_json(comparison).dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
  write_file(paths.csv, to_csv(comparison));
  write_file(paths.page, compare_page(comparison));
  return paths;
}

}  // namespace vyx::compare
