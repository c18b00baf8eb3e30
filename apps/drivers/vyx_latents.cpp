#include "apps/latents/latent_report.h"
#include "apps/latents/latent_study.h"
#include "apps/options/contrast_options.h"
#include "apps/options/driver.h"
#include "core/base/error.h"
#include "core/io/files.h"
#include "models/activations/packing.h"
#include "sae/files/autoencoder_file.h"
#include "sae/latents/model_site.h"
#include "steering/edits/steer.h"
#include "steering/files/control_vector_file.h"

namespace {

using namespace vyx;

struct Files {
  std::string model, sae, site, heldout, neutral, vector;
  std::vector<std::string> text;
  uint64_t text_tokens = 20'000;
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

std::vector<std::vector<models::TokenId>> read_text(const models::LanguageModel& model,
                                                    const Files& files) {
  const auto& config = model.config();
  models::Packer packer(models::TextSource({files.text.begin(), files.text.end()}),
                        model.tokenizer(),
                        {.begin_token = config.tokens.add_bos ? config.tokens.bos : -1,
                         .pad_token = model.pad_token()});
  auto rows = models::segments_of(packer, files.text_tokens);
  if (rows.empty())
    fail("{}: found no text, expected some to look for contexts in", files.text.front());
  return rows;
}

}  // namespace

int main(int argc, char** argv) {
  Files files;
  apps::ContrastOptions contrast;
  apps::LatentStudyOptions options;
  std::string tokens = "all", by{apps::name_of(options.by)};

  apps::Driver driver("vyx-latents",
                      "--model model.pt --sae sae/ (--contrast pairs.jsonl | --template "
                      "concept.json) [--heldout FILE --neutral FILE]",
                      "Finds the latents of a sparse autoencoder that have to do with a concept: "
                      "those that read it (they fire where it is: AUROC,\n"
                      "difference of means), those that write it (turning them up shifts the "
                      "model's preference: shift and KL measured at --dose, for\n"
                      "the first of each ranking; predicted from the gradient, for all), "
                      "attribution, cosine with a control vector, output score,\n"
                      "the tokens that each promotes, and the tokens on which it fires.",
                      "  vyx-latents --model smollm2.pt --sae sae --contrast pairs.jsonl\n"
                      "  vyx-latents --model smollm2.pt --sae sae --template apps/data/happy.json "
                      "--heldout apps/data/happy_heldout.jsonl \\\n"
                      "              --neutral apps/data/neutral.txt --vector happy.gguf --text "
                      "heldout.jsonl --by shift");
  driver.options()("model,m", apps::po::value(&files.model)->required()->value_name("FILE"),
                   "the archive of vyx-import")(
      "sae", apps::po::value(&files.sae)->required()->value_name("FOLDER"),
      "the autoencoder, in any format that vyx reads")(
      "site", apps::po::value(&files.site)->value_name("SITE"),
      "where the autoencoder belongs, if its file does not say");
  contrast.add_to(driver);
  driver.options()("heldout", apps::po::value(&files.heldout)->value_name("FILE"),
                   "JSON Lines of {\"prompt\", \"positive\", \"negative\"}: what attribution, "
                   "predicted and shift are about")(
      "neutral", apps::po::value(&files.neutral)->value_name("FILE"),
      "plain text, for the side effect that goes with shift")(
      "vector", apps::po::value(&files.vector)->value_name("FILE"),
      "a control vector, for cosines")(
      "text", apps::po::value(&files.text)->multitoken()->value_name("FILE…"),
      "where contexts are looked for: text, JSON Lines, or either as .gz; the contrast set's "
      "prompts if not given")(
      "text-tokens",
      apps::po::value(&files.text_tokens)->default_value(files.text_tokens)->value_name("N"),
      "of the text, at most")(
      "tokens", apps::po::value(&tokens)->default_value(tokens)->value_name("WHICH"),
      "what stands for a prompt: all, the mean of its tokens' latents; or last, those of its last "
      "token")("by", apps::po::value(&by)->default_value(by)->value_name("SCORE"),
               "the order: auroc, difference, attribution, cosine, predicted, output or shift")(
      "top", apps::po::value(&options.top)->default_value(options.top)->value_name("N"),
      "latents to show")("latent",
                         apps::po::value(&options.latents)->multitoken()->value_name("N…"),
                         "show these too, whatever their place")(
      "candidates",
      apps::po::value(&options.candidates)->default_value(options.candidates)->value_name("N"),
      "output score and shift are measured for the first N of each ranking (and for those shown)")(
      "dose", apps::po::value(&options.dose)->default_value(options.dose)->value_name("X"),
      "of shift: how long the vector is that is added at every token, in median norms of the "
      "activations")(
      "prompt", apps::po::value(&options.prompt)->default_value(options.prompt)->value_name("TEXT"),
      "neutral, for the output score")(
      "contexts",
      apps::po::value(&options.contexts)->default_value(options.contexts)->value_name("N"),
      "of each latent that is shown")(
      "window", apps::po::value(&options.window)->default_value(options.window)->value_name("N"),
      "tokens before the one of a context")(
      "allow-other-model", apps::po::bool_switch(&files.allow_other_model),
      "take an autoencoder or a vector that was made with another model");

  return driver.run(argc, argv, [&](const apps::CommonOptions& common) -> Json {
    contrast.validate();
    if (tokens != "last" && tokens != "all")
      throw UsageError(fmt::format("--tokens {}: expected last or all", tokens));
    if (files.text_tokens == 0) throw UsageError("--text-tokens 0: expected at least 1");
    options.all_tokens = tokens == "all";
    options.by = apps::score_from_name(by);
    options.progress = common.progress();

    sae::Autoencoder autoencoder = sae::load_autoencoder(files.sae);
    if (!files.site.empty()) autoencoder.config.sites = {files.site};
    auto model = models::LanguageModel::load(files.model, common.torch_device());
    const Site site = sae::site_in(model, autoencoder, files.sae, files.allow_other_model);
    apps::LatentStudyInput input;
    input.contrast = contrast.read(model, common);
    if (!files.heldout.empty()) input.heldout = steering::read_continuation_pairs(files.heldout);
    if (!files.neutral.empty()) input.neutral = read_text_file(files.neutral);
    if (!files.vector.empty()) input.vector = direction_at(model, site, files, common);
    if (!files.text.empty()) input.text = read_text(model, files);

    const Stopwatch stopwatch;
    const apps::LatentStudy study = apps::study_latents(model, autoencoder, site, input, options);
    if (!common.json) {
      fmt::print("{}", to_text(study));
      if (study.special + study.sinks > 0)
        common.warn(fmt::format(
            "left out of the statistics: {} special tokens and {} attention sinks{}", study.special,
            study.sinks, options.all_tokens ? "" : ", last tokens of prompts"));
      fmt::print("{}: {} latents at {}, {} prompts, in {:.1f} s\n", files.sae, study.latents(),
                 study.site, study.prompts, stopwatch.seconds());
    }
    Json json = to_json(study);
    json["sae"] = files.sae;
    json["dose"] = options.dose;
    json["tokens"] = tokens;
    json["by"] = by;
    json["seconds"] = stopwatch.seconds();
    return json;
  });
}
