#include <algorithm>
#include <optional>

#include "apps/latents/latent_report.h"
#include "apps/latents/latent_study.h"
#include "apps/options/contrast_options.h"
#include "apps/options/driver.h"
#include "core/base/error.h"
#include "core/io/text_kind.h"
#include "models/activations/text_rows.h"
#include "sae/files/autoencoder_file.h"
#include "sae/latents/model_site.h"
#include "steering/edits/steer.h"
#include "steering/files/control_vector_file.h"

namespace {

using namespace vyx;

struct Files {
  std::string model, sae, site, heldout, neutral, vector;
  std::vector<std::string> text;
  uint64_t tokens = 20'000;  // of the text
  bool allow_other_model = false;
};

at::Tensor direction_at(models::LanguageModel& model, const Site& site, const Files& files,
                        const apps::CommonOptions& common) {
  std::string warning;
  const auto vector =
      steering::read_control_vector(files.vector, model.config().block_path, &warning);
  if (!warning.empty()) common.warn(warning);
  const std::vector<steering::WeightedVector> chosen = {
      {.vector = vector, .coefficient = 1, .sites = site.name()}};
  return steering::make_edits(model, chosen, {.allow_other_model = files.allow_other_model})
      .front()
      .edit.terms()
      .front()
      .writer;
}

}  // namespace

int main(int argc, char** argv) {
  Files files;
  apps::ContrastOptions contrast;
  apps::LatentStudyOptions options;
  std::string positions = "all";
  std::optional<std::string> by;

  apps::Driver driver(
      "vyx-latents",
      "--model model.pt --sae sae/ (--contrast pairs.jsonl | --template concept.json | --show I) "
      "[--heldout FILE --neutral FILE]",
      "Finds the latents of a sparse autoencoder that have to do with a concept: those that read "
      "it (they fire where it is: AUROC, difference of means), those that write it (turning them "
      "up shifts the model's preference: shift and KL measured at --dose, for the first of each "
      "ranking; predicted from the gradient, for all), attribution, cosine with a control vector, "
      "output score, the tokens that each promotes, and the tokens on which it fires.",
      "  vyx-latents --model smollm2.pt --sae sae --contrast pairs.jsonl\n"
      "  vyx-latents --model smollm2.pt --sae sae --template apps/data/happy.json \\\n"
      "              --heldout apps/data/happy_heldout.jsonl --neutral apps/data/neutral.txt \\\n"
      "              --vector happy.gguf --text heldout.jsonl --by shift\n"
      "  vyx-latents --model smollm2.pt --sae sae --show 2938 77 --text heldout.jsonl");
  auto& option = driver.options();
  option("model,m", files.model, "FILE", "the archive of vyx-import", apps::kRequired);
  option("sae", files.sae, "PATH", "the autoencoder, in any format that vyx reads",
         apps::kRequired);
  option("site", files.site, "SITE", "where the autoencoder belongs, if its file does not say");
  contrast.add_to(driver);
  option("heldout", files.heldout, "FILE",
         "prompts with two continuations each, JSON Lines (apps/data/README.md): what attribution, "
         "predicted and shift are about");
  option("neutral", files.neutral, "FILE",
         "plain text without the concept (apps/data/README.md), for the side effect that goes with "
         "shift")
      .needs("heldout");
  option("vector,v", files.vector, "FILE", "a control vector, for cosines");
  option("text,t", files.text, "FILE…",
         std::string("where contexts are looked for: ") + apps::kTextHelp +
             "; the contrast set's prompts if not given")
      .unless("contexts", "0");
  option("tokens,n", files.tokens, "N", "of the text, at most").needs("text");
  option("positions", positions, "WHICH",
         "what stands for a prompt: all, the mean of its tokens' latents; or last, those of its "
         "last token")
      .needs("contrast", "template");
  option("by", by, "SCORE",
         "the order: auroc (if not given), difference, attribution, cosine (its two ends: along "
         "the vector and against it), predicted, output or shift");
  option("top", options.top, "N", "latents to show, of each end")
      .needs("contrast", "template", "by");
  option("show", options.latents, "I…",
         "show these too, whatever their place; without a contrast set, these alone");
  option("candidates", options.candidates, "N",
         "output score and shift are measured for the first N of each ranking, and for those "
         "shown");
  option("dose", options.dose, "X",
         "of shift: how long the vector is that is added at every token, in median norms of the "
         "activations")
      .needs("heldout");
  option("prompt,p", options.prompt, "TEXT", "without the concept, for the output score");
  option("contexts", options.contexts, "N", "of each latent that is shown");
  option("window", options.window, "N", "tokens shown before the one of a context")
      .unless("contexts", "0");
  option("allow-other-model", files.allow_other_model,
         "take an autoencoder or a vector that was made with another model");
  driver.common("seed").never("nothing here is random");
  driver.result(
      {{"sae", "as given"},
       {"site", "where it belongs"},
       {"dose", "of shift"},
       {"positions", "as given"},
       {"by", "the order; null: none"},
       {"prompts", "of the contrast set"},
       {"left_out", "of the statistics", "special, sinks"},
       {"median_norm", "of the activations"},
       {"reads_by", "the score that orders readers; null: without a contrast set"},
       {"writes_by", "the score that orders writers"},
       {"best_reader", "a latent, or null"},
       {"best_writer", "a latent"},
       {"best_of_both", "the latent whose worse place is the best; -1: none"},
       {"common_best", "how many of the best readers are among the best writers"},
       {"measured", "the latents with a measured shift or output score"},
       {"latents", "one per latent that is shown, with the scores that there are",
        "latent, read_place, write_place, promotes, suppresses, contexts, auroc?, difference?, "
        "cosine?, attribution?, predicted?, output?, shift?, kl?"},
       {"latents.contexts", "the strongest first", "activation, before, token, after"},
       {"scores", "of all latents, a list per score; null: not measured"},
       {"seconds", ""}});

  return driver.run(argc, argv, [&](const apps::CommonOptions& common) -> Json {
    const bool with_contrast = !contrast.pairs.empty() || !contrast.pattern.empty();
    if (with_contrast || options.latents.empty()) contrast.validate();
    if (positions != "last" && positions != "all")
      throw UsageError(fmt::format("--positions {}: expected all or last", positions));
    if (files.tokens == 0) throw UsageError("--tokens 0: expected at least 1");
    options.all_tokens = positions == "all";
    if (by || !with_contrast)
      options.by = by ? std::optional(apps::score_from_name(*by)) : std::nullopt;
    if (!with_contrast && files.text.empty())
      throw UsageError("--show without --contrast or --template: expected --text with it");
    options.progress = common.progress();

    sae::Autoencoder autoencoder = sae::load_autoencoder(files.sae);
    if (!files.site.empty()) autoencoder.config.sites = {files.site};
    auto model = models::LanguageModel::load(files.model, common.torch_device());
    const Site site = sae::site_in(model, autoencoder, files.sae, files.allow_other_model);
    apps::LatentStudyInput input;
    if (with_contrast) input.contrast = contrast.read(model, common);
    if (!files.heldout.empty()) input.heldout = steering::read_continuation_pairs(files.heldout);
    if (!files.neutral.empty()) input.neutral = read_prose(files.neutral);
    if (!files.vector.empty()) input.vector = direction_at(model, site, files, common);
    if (!files.text.empty())
      input.text = models::read_text_rows(
          model, files.text,
          {.context = std::min(models::TextRowsOptions{}.context, model.config().context_length),
           .max_tokens = files.tokens});

    const Stopwatch stopwatch;
    const apps::LatentStudy study = apps::study_latents(model, autoencoder, site, input, options);
    if (!common.json) {
      fmt::print("{}", to_text(study));
      if (study.left.special + study.left.sinks > 0)
        common.warn(
            fmt::format("left out of the statistics: {} special tokens and {} attention sinks{}",
                        study.left.special, study.left.sinks,
                        options.all_tokens ? "" : ", last tokens of prompts"));
      fmt::print("{}: {} latents at {}, {} prompts, in {:.1f} s\n", files.sae, study.latents(),
                 study.site, study.prompts, stopwatch.seconds());
    }
    Json json = to_json(study);
    json["sae"] = files.sae;
    json["dose"] = options.dose;
    json["positions"] = positions;
    json["by"] = options.by ? Json(apps::name_of(*options.by)) : Json();
    json["seconds"] = stopwatch.seconds();
    return json;
  });
}
