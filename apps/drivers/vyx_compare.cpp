#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <optional>

#include "apps/compare/language_subject.h"
#include "apps/compare/report.h"
#include "apps/compare/rules.h"
#include "apps/compare/synthetic_subject.h"
#include "apps/options/contrast_options.h"
#include "apps/options/driver.h"
#include "core/base/error.h"
#include "core/base/text.h"
#include "core/io/digest.h"
#include "core/io/files.h"
#include "sae/files/autoencoder_file.h"

namespace {

using vyx::Json;
using namespace vyx::compare;

struct Options {
  std::string model, heldout, sae, neutral, ood, choices, site, instruction, levels = "0.1,0.3,1",
                                                                             out;
  std::vector<std::string> others;
  vyx::apps::ContrastOptions contrast;
  bool synthetic = false;
  CompareOptions compare;
  LanguageOptions language;
};

std::vector<double> parse_levels(const std::string& text) {
  std::vector<double> levels;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    levels.push_back(
        vyx::apps::parse_named_number("--kl=" + text.substr(begin, end - begin), 0).number);
    begin = end + 1;
  }
  std::sort(levels.begin(), levels.end());
  return levels;
}

void validate(Options& options) {
  options.compare.levels = parse_levels(options.levels);
  validate(options.compare);
  validate(options.language);
  if (options.synthetic) return;
  for (const auto& [name, value] : {std::pair{"--model", options.model},
                                    {"--heldout", options.heldout},
                                    {"--sae", options.sae},
                                    {"--neutral", options.neutral}})
    if (value.empty()) throw vyx::UsageError(fmt::format("expected {}, or --synthetic", name));
  options.contrast.validate();
}

vyx::Site find_site(vyx::models::LanguageModel& model, const vyx::sae::Autoencoder& sae,
                    const Options& options) {
  const std::vector<std::string>& sites = sae.config.sites;
  if (options.site.empty() && sites.size() != 1)
    vyx::fail("{}: found {} sites in it, expected one; give --site", options.sae, sites.size());
  const std::vector<vyx::Site> found =
      model.module().match(options.site.empty() ? sites.front() : options.site);
  if (found.size() != 1)
    vyx::fail("--site {}: found {} sites, expected one; the comparison is made at one site",
              options.site, found.size());
  return found.front();
}

/// What a file of held-out pairs is about: "formal" of formal_heldout.jsonl.
std::string concept_of(const std::filesystem::path& path) {
  constexpr std::string_view kEnd = "_heldout";
  std::string name = path.stem().string();
  if (name.size() > kEnd.size() && name.ends_with(kEnd)) name.resize(name.size() - kEnd.size());
  return name;
}

/// SHA-256 over the weights, whatever file they came from.
std::string digest_of_weights(const vyx::sae::Autoencoder& sae) {
  std::string digests;
  sae.weights.visit([&](const char* name, const at::Tensor& weights) {
    const at::Tensor values = weights.contiguous();
    digests += fmt::format(
        "{} {}\n", name,
        vyx::sha256({static_cast<const std::byte*>(values.const_data_ptr()), values.nbytes()}));
  });
  return vyx::sha256(digests);
}

Comparison run(Subject& subject, const vyx::sae::Autoencoder& sae, Options& options,
               const vyx::apps::CommonOptions& common) {
  const Plan planned = plan(subject, options.compare);
  if (!common.json && !common.quiet)
    fmt::print(stderr, "plan: about {} tokens through the model, and {} for {} null draws a kind\n",
               vyx::with_commas(planned.methods), vyx::with_commas(planned.nulls),
               options.compare.nulls);
  vyx::Progress progress("Comparing", planned.methods + planned.nulls, "tokens", common.progress());
  options.compare.on_tokens = [&](uint64_t tokens) { progress.advance(tokens); };
  return compare(subject, sae, options.compare);
}

Comparison compare_synthetic(Options& options, const vyx::apps::CommonOptions& common) {
  SyntheticSubject subject({.seed = common.seed});
  return run(subject, subject.true_autoencoder(), options, common);
}

Comparison compare_language(Options& options, const vyx::apps::CommonOptions& common) {
  const vyx::sae::Autoencoder sae = vyx::sae::load_autoencoder(options.sae);
  auto model = vyx::models::LanguageModel::load(options.model, common.torch_device());
  LanguageInputs inputs{
      .site = find_site(model, sae, options),
      .contrast = options.contrast.read(model, common),
      .heldout = {options.heldout, vyx::steering::read_continuation_pairs(options.heldout)},
      .neutral = vyx::read_text_file(options.neutral)};
  inputs.instruction =
      options.instruction.empty() ? inputs.contrast.instruction : options.instruction;
  for (const std::string& other : options.others)
    inputs.others.push_back({concept_of(other), vyx::steering::read_continuation_pairs(other)});
  if (!options.ood.empty())
    inputs.ood = {options.ood, vyx::steering::read_continuation_pairs(options.ood)};
  if (!options.choices.empty())
    inputs.choices = {options.choices, vyx::steering::read_choice_items(options.choices)};
  LanguageSubject subject(model, std::move(inputs), options.language);
  Comparison comparison = run(subject, sae, options, common);
  comparison.provenance["sae"] = {{"source", options.sae},
                                  {"sha256", digest_of_weights(sae)},
                                  {"architecture", vyx::sae::name_of(sae.config.architecture)},
                                  {"latents", sae.config.latents},
                                  {"k", sae.config.k}};
  return comparison;
}

void print(const Comparison& comparison) {
  fmt::print("{:<26} {:>9} {:>9} {:>24} {:>8} {:>10} {:>9} {:>9} {:>9} {:>8}\n", "method", "dose",
             "effect", "95 % interval", "KL p95", "loss rise", "anti", "template", "choices",
             "largest p");
  for (const MethodResult& method : comparison.methods) {
    const Level& level = headline_of(method, comparison.headline);
    double p = method.nulls.empty() ? std::nan("") : 0;
    for (const NullResult& null : method.nulls) p = std::max(p, null.p);
    fmt::print(
        "{:<26} {:>9.4f} {:>+9.3f} {:>24} {:>8.3f} {:>+10.4f} {:>7.0f} % {:>9} {:>9} {:>8.3f}{}\n",
        method.name, level.dose.dose, level.effect,
        fmt::format("[{:+.3f}, {:+.3f}]", level.interval.low, level.interval.high),
        level.side_effect.kl_p95, level.side_effect.loss_rise, 100 * method.anti_steerable,
        method.ood ? fmt::format("{:+.3f}", method.ood->effect) : "-",
        method.choices ? fmt::format("{:.1f} %", 100 * method.choices->accuracy) : "-", p,
        level.dose.reached ? "" : "  (level not reached)");
  }
  if (comparison.choice_items > 0)
    fmt::print("{:<26} {:>111}\n", "the model as it is",
               fmt::format("{:.1f} %", 100 * comparison.unedited_accuracy));
  if (comparison.instructed)
    fmt::print("{:<26} {:>9} {:>+9.3f} {:>24} {:>8.3f} {:>+10.4f}\n", "the prompt", "",
               comparison.instructed_effect,
               fmt::format("[{:+.3f}, {:+.3f}]", comparison.instructed_interval.low,
                           comparison.instructed_interval.high),
               comparison.instructed_side_effect.kl_p95,
               comparison.instructed_side_effect.loss_rise);
  fmt::print("\n");
  for (const PassLine& line : comparison.rules)
    fmt::print("{:<6}{}: {} ({})\n", line.passed ? (*line.passed ? "pass" : "FAIL") : "-",
               line.method, line.rule, line.detail);
  fmt::print("\n");
  for (const std::string& sentence : answer(comparison)) fmt::print("{}\n", sentence);
  fmt::print("\nNot shown:\n");
  for (const std::string& note : comparison.notes) fmt::print("- {}\n", note);
}

}  // namespace

int main(int argc, char** argv) {
  using vyx::apps::po::bool_switch;
  using vyx::apps::po::value;
  Options options;
  CompareOptions& compare = options.compare;
  LanguageOptions& language = options.language;
  vyx::apps::Driver driver(
      "vyx-compare",
      "--model model.pt (--contrast pairs.jsonl | --template concept.json) --heldout heldout.jsonl "
      "--sae sae/ --neutral neutral.txt --out compare/",
      "Compares ways to steer one concept at one site: directions by " +
          vyx::steering::method_names() +
          ",\n"
          "an autoencoder's latents, and random directions. Each is measured at the dose that "
          "costs "
          "the same KL on neutral text,\n"
          "on data that it was not made or chosen from. Nulls go through the same steps. Writes "
          "compare.json, compare.csv and the page compare.html.",
      "  vyx-compare --model smollm2.pt --template apps/data/happy.json --heldout "
      "apps/data/happy_heldout.jsonl --sae sae \\\n"
      "              --neutral apps/data/neutral.txt --other apps/data/formal_heldout.jsonl --ood "
      "apps/data/happy_ood.jsonl \\\n"
      "              --choices apps/data/choices.jsonl --out compare\n"
      "  vyx-compare --synthetic --out compare");
  driver.options()("model,m", value(&options.model)->value_name("FILE"),
                   "the archive of vyx-import");
  options.contrast.add_to(driver);
  driver.options()("heldout", value(&options.heldout)->value_name("FILE"),
                   "JSON Lines of {\"prompt\", \"positive\", \"negative\"}: continuations that "
                   "measure the effect")("sae", value(&options.sae)->value_name("FOLDER"),
                                         "the autoencoder, in any format that vyx reads")(
      "neutral", value(&options.neutral)->value_name("FILE"), "plain prose, for the side effects")(
      "other", value(&options.others)->multitoken()->value_name("FILE…"),
      "continuations of other concepts, which should not move, and whose mean vectors are "
      "controls")("ood", value(&options.ood)->value_name("FILE"),
                  "continuations as --heldout's, in another form: does the effect hold there?")(
      "choices", value(&options.choices)->value_name("FILE"),
      "JSON Lines of {\"question\", \"choices\", \"answer\"}: does the model still know what it "
      "knew?")("site", value(&options.site)->value_name("SITE"),
               "the autoencoder's own if not given")(
      "instruction", value(&options.instruction)->value_name("TEXT"),
      "a prompt that asks for the concept; the template's if not given")(
      "kl", value(&options.levels)->default_value(options.levels)->value_name("A,B,…"),
      "side effects to compare at: 95th percentile of KL, nats")(
      "headline", value(&compare.headline)->default_value(compare.headline)->value_name("A"),
      "the one of them that nulls are drawn at")(
      "nulls", value(&compare.nulls)->default_value(compare.nulls)->value_name("N"),
      "draws of each null")("k", value(&compare.k)->default_value(compare.k)->value_name("N"),
                            "latents of the best k")(
      "candidates", value(&compare.candidates)->default_value(compare.candidates)->value_name("N"),
      "latents whose effect is measured to choose from them")(
      "neutral-tokens",
      value(&language.neutral_tokens)->default_value(language.neutral_tokens)->value_name("N"),
      "for side effects: half to choose doses, half to test")(
      "sample-tokens",
      value(&language.sample_tokens)->default_value(language.sample_tokens)->value_name("N"),
      "of each text; 0: none")(
      "bootstrap", value(&compare.bootstrap)->default_value(compare.bootstrap)->value_name("N"),
      "resamples of an interval")("synthetic", bool_switch(&options.synthetic),
                                  "compare on a model whose features are known instead")(
      "out,o", value(&options.out)->required()->value_name("FOLDER"), "for the report");

  return driver.run(argc, argv, [&](const vyx::apps::CommonOptions& common) -> Json {
    compare.seed = language.seed = common.seed;
    validate(options);
    vyx::make_folder(options.out);
    vyx::require_writable(report_paths(options.out).page);
    const vyx::Stopwatch stopwatch;
    const Comparison comparison =
        options.synthetic ? compare_synthetic(options, common) : compare_language(options, common);
    const ReportPaths paths = write_report(comparison, options.out);
    if (!common.json) {
      print(comparison);
      fmt::print("\n{} tokens in {:.0f} s; report in {}\n", vyx::with_commas(comparison.tokens),
                 stopwatch.seconds(), paths.page.string());
    }
    Json json = to_json(comparison);
    json["page"] = paths.page.string();
    json["seconds"] = stopwatch.seconds();
    return json;
  });
}
