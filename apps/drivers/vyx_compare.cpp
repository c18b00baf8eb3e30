#include <algorithm>

#include "apps/compare/compare_text.h"
#include "apps/compare/language_files.h"
#include "apps/compare/plan.h"
#include "apps/compare/report.h"
#include "apps/compare/synthetic_subject.h"
#include "apps/options/contrast_options.h"
#include "apps/options/driver.h"
#include "core/base/error.h"
#include "core/base/text.h"
#include "core/io/files.h"
#include "sae/files/autoencoder_file.h"
#include "steering/directions/methods.h"

namespace {

using namespace vyx;
using compare::Comparison;

struct Options {
  std::string model, levels = "0.1,0.3,1", out;
  apps::ContrastOptions contrast;
  bool synthetic = false;
  compare::LanguageFiles files;
  compare::CompareOptions protocol;
  compare::LanguageOptions language;
};

void validate(Options& options) {
  options.protocol.levels = apps::parse_numbers("--kl", options.levels);
  std::sort(options.protocol.levels.begin(), options.protocol.levels.end());
  compare::validate(options.protocol);
  compare::validate(options.language);
  if (options.synthetic) return;
  for (const auto& [name, value] : {std::pair{"--model", options.model},
                                    {"--heldout", options.files.heldout},
                                    {"--sae", options.files.sae},
                                    {"--neutral", options.files.neutral}})
    if (value.empty()) throw UsageError(fmt::format("expected {}, or --synthetic", name));
  options.contrast.validate();
}

Comparison run(compare::Subject& subject, const sae::Autoencoder& sae, Options& options,
               const apps::CommonOptions& common) {
  const compare::Plan planned = compare::plan(subject, options.protocol);
  if (!common.json && !common.quiet)
    fmt::print(stderr,
               "plan: about {} tokens through the model, and {} for {} draws of each null\n",
               with_commas(planned.methods), with_commas(planned.nulls), options.protocol.nulls);
  Progress progress("Comparing", planned.methods + planned.nulls, "tokens", common.progress());
  if (!common.quiet)
    options.protocol.on_message = [](const std::string& message) {
      fmt::print(stderr, "{}\n", message);
    };
  options.protocol.on_tokens = [&](uint64_t tokens) { progress.advance(tokens); };
  return compare::compare(subject, sae, options.protocol);
}

Comparison compare_synthetic(Options& options, const apps::CommonOptions& common) {
  compare::SyntheticSubject subject({.seed = common.seed});
  return run(subject, subject.true_autoencoder(), options, common);
}

Comparison compare_language(Options& options, const apps::CommonOptions& common) {
  const sae::Autoencoder sae = sae::load_autoencoder(options.files.sae);
  auto model = models::LanguageModel::load(options.model, common.torch_device());
  compare::LanguageSubject subject(
      model, compare::read_inputs(model, sae, options.contrast.read(model, common), options.files),
      options.language);
  Comparison comparison = run(subject, sae, options, common);
  comparison.provenance["sae"] = compare::provenance_of(sae, options.files.sae);
  return comparison;
}

void list_keys(apps::Driver& driver) {
  driver.result(
      {{"vyx_version", ""},
       {"site", "where it was compared"},
       {"headline_kl", "the level of nulls, rules and answer"},
       {"median_norm", "of the activations; directions' doses are in it"},
       {"latents", "size of the dictionary"},
       {"firing_latents", "of them, on the pairs and a part of the background"},
       {"test_items", "held-out pairs that chose nothing"},
       {"ood_items", "pairs of --ood that were used"},
       {"choices", "of the model as it is, or null", "items, chance, accuracy, interval"},
       {"tokens_run", "through the model"},
       {"answer", "sentences"},
       {"methods", "one per method and control",
        "name, family, control, dose_unit, latents, curve, levels, response, anti_steerable, "
        "spearman, wrong_sign, others, other_latents, repetition, detection, implicit_vector, "
        "dictionary, ood, choices, gain_over_mean, gain_over_foreign, nulls, p_adjusted"},
       {"methods.levels", "one per level of --kl",
        "level, dose, reached, log_kl_error, selection, effect, interval, shifts, side_effect, "
        "samples"},
       {"methods.levels.selection", "where the dose was looked for", "dose, kl_p95"},
       {"methods.levels.side_effect", "on neutral text, nats",
        "kl_mean, kl_p95, kl_max, reverse_kl_mean, reverse_kl_p95, reverse_kl_max, loss_rise"},
       {"methods.ood", "on --ood, or null", "effect, interval, shifts"},
       {"methods.choices", "on --choices, or null", "accuracy, change, interval"},
       {"methods.gain_over_mean", "at equal KL, or null", "over, difference, interval, p"},
       {"methods.gain_over_foreign", "one per foreign control", "over, difference, interval, p"},
       {"methods.nulls", "one per null that is valid for the method; none for a control",
        "name, replaces, hypothesis, observed, p, z, stopped_early, draws"},
       {"cosines", "of the methods' vectors, method by method"},
       {"unedited", "texts of the model as it is", "prompt, text"},
       {"global_null", "that no method has an effect: number of draws that drive all", "draws, p"},
       {"rules", "passed: null where it cannot be said", "method, rule, passed, detail"},
       {"notes", "what is not shown"},
       {"provenance", "files, splits, digests, options"},
       {"prompt?", "with an instruction: what asking for the concept does",
        "instruction, effect, interval, side_effect"},
       {"page", "the report"},
       {"seconds", ""}});
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  auto& files = options.files;
  auto& protocol = options.protocol;
  auto& language = options.language;
  apps::Driver driver(
      "vyx-compare",
      "--model model.pt (--contrast pairs.jsonl | --template concept.json) --heldout "
      "heldout.jsonl --sae sae/ --neutral neutral.txt --out compare/",
      "Compares ways to steer one concept at one site: directions by " + steering::method_names() +
          ", an autoencoder's latents, and random directions. Each is measured at the dose that "
          "costs the same KL on neutral text, on data that it was not made or chosen from. Nulls "
          "go through the same steps. Writes compare.json, compare.csv and the page compare.html.",
      "  vyx-compare --model smollm2.pt --template apps/data/happy.json \\\n"
      "              --heldout apps/data/happy_heldout.jsonl --sae sae \\\n"
      "              --neutral apps/data/neutral.txt --other apps/data/formal_heldout.jsonl \\\n"
      "              --ood apps/data/happy_ood.jsonl --choices apps/data/choices.jsonl "
      "--out compare\n"
      "  vyx-compare --synthetic --out compare");
  auto& option = driver.options();
  option("model,m", options.model, "FILE", "the archive of vyx-import");
  options.contrast.add_to(driver);
  option("heldout", files.heldout, "FILE",
         "prompts with two continuations each, JSON Lines (apps/data/README.md), to measure the "
         "effect");
  option("sae", files.sae, "PATH", "the autoencoder, in any format that vyx reads");
  option(
      "neutral", files.neutral, "FILE",
      "text without the concept, plain or JSON Lines (apps/data/README.md), for the side effects");
  option("other", files.others, "FILE…",
         "as --heldout, of other concepts, which should not move; their mean vectors are controls");
  option("ood", files.ood, "FILE", "as --heldout, in another form: does the effect hold there?");
  option("choices", files.choices, "FILE",
         "questions with choices, JSON Lines (apps/data/README.md): does the model still know what "
         "it knew?");
  option("site", files.site, "SITE", "where; the autoencoder's own site if not given");
  option("allow-other-model", files.allow_other_model,
         "take an autoencoder that was trained on another model");
  option("instruction", files.instruction, "TEXT",
         "a prompt that asks for the concept; the template's if not given");
  option("kl", options.levels, "NATS,…",
         "side effects to compare at: the 95th percentile of KL over tokens");
  option("headline", protocol.headline, "NATS", "the one of them that nulls are drawn at");
  option("nulls", protocol.nulls, "N",
         "draws of each null; they are kept in draws.json, and a comparison that is started again "
         "goes on from there");
  option("best-k", protocol.k, "N", "latents of the method \"best k latents\"");
  option("candidates", protocol.candidates, "N",
         "latents whose effect is measured to choose from them");
  option("neutral-tokens", language.neutral_tokens, "N",
         "of --neutral, for side effects: half to look for doses, half to read them");
  option("sample-tokens", language.sample_tokens, "N", "of each text that is shown; 0: no texts");
  option("bootstrap", protocol.bootstrap, "N", "resamples for an interval");
  option("synthetic", options.synthetic, "compare on a model whose features are known instead");
  option("out,o", options.out, "FOLDER", "for the report", apps::kRequired);
  option.writes("out");
  for (const char* name :
       {"model", "contrast", "template", "heldout", "sae", "neutral", "other", "ood", "choices",
        "site", "instruction", "neutral-tokens", "sample-tokens"})
    option.row(name).not_with("synthetic");
  driver.common("device").not_with("synthetic");
  list_keys(driver);

  return driver.run(argc, argv, [&](const apps::CommonOptions& common) -> Json {
    protocol.seed = language.seed = common.seed;
    validate(options);
    make_folder(options.out);
    require_writable(compare::report_paths(options.out).page);
    protocol.draws = std::filesystem::path(options.out) / "draws.json";
    const Stopwatch stopwatch;
    const Comparison comparison =
        options.synthetic ? compare_synthetic(options, common) : compare_language(options, common);
    const compare::ReportPaths paths = compare::write_report(comparison, options.out);
    if (!common.json)
      fmt::print("{}\n{} tokens in {:.0f} s; report in {}\n", compare::to_text(comparison),
                 with_commas(comparison.tokens), stopwatch.seconds(), paths.page.string());
    Json json = compare::to_json(comparison);
    json["page"] = paths.page.string();
    json["seconds"] = stopwatch.seconds();
    return json;
  });
}
