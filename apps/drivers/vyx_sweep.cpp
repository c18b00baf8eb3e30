#include <optional>

#include "apps/options/driver.h"
#include "apps/options/interventions.h"
#include "core/base/error.h"
#include "core/io/text_kind.h"
#include "models/generation/generate.h"
#include "steering/effects/sweep.h"

namespace {

using vyx::Json;
using namespace vyx::steering;

Json row_json(const SweepRow& row) {
  return {{"coefficient", row.coefficient},
          {"shift", row.effect.shift},
          {"positive_share", row.effect.positive_share},
          {"kl_mean", row.effect.kl_mean},
          {"kl_p95", row.effect.kl_p95}};
}

void print_row(const SweepRow& row) {
  fmt::print("{:>11.2f} {:>+10.3f} {:>9.2f} {:>9.3f} {:>9.3f}\n", row.coefficient, row.effect.shift,
             row.effect.positive_share, row.effect.kl_mean, row.effect.kl_p95);
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  using namespace vyx;
  std::string model_path, heldout_path, neutral_path;
  std::vector<std::string> prompts;
  SweepOptions options;
  models::GenerateOptions generation{.max_tokens = 48, .sampling = {.repetition_penalty = 1.1}};
  apps::VectorOptions vector_options;
  apps::LatentOptions latent_options;

  apps::Driver driver(
      "vyx-sweep",
      "--model model.pt (--vector happy.gguf | --sae sae/ --latent I=VALUE) "
      "--heldout heldout.jsonl --neutral neutral.txt",
      "Measures control vectors, or changes of an autoencoder's latents, at several coefficients: "
      "how far the model's preference between pairs of continuations moves (shift, nats per "
      "token), and what happens to text that has nothing to do with it (KL of the steered from the "
      "unsteered model, nats per token). Chooses the strongest coefficient whose KL is within "
      "--max-kl with either sign.",
      "  vyx-sweep --model smollm2.pt --vector happy.gguf --sites 'model.layers.{8..21}' \\\n"
      "            --heldout apps/data/happy_heldout.jsonl --neutral apps/data/neutral.txt \\\n"
      "            --prompt 'How was your day?'\n"
      "  vyx-sweep --model smollm2.pt --sae sae --latent 2938=1x --coefficients 1 2 3 \\\n"
      "            --heldout apps/data/happy_heldout.jsonl --neutral apps/data/neutral.txt");
  auto& option = driver.options();
  option("model,m", model_path, "FILE", "the archive of vyx-import", apps::kRequired);
  option("heldout", heldout_path, "FILE",
         "prompts with two continuations each, JSON Lines (apps/data/README.md); not what the "
         "vector was made from",
         apps::kRequired);
  option("neutral", neutral_path, "FILE", "plain text without the concept (apps/data/README.md)",
         apps::kRequired);
  vector_options.add_to(driver);
  latent_options.add_to(driver);
  option("coefficients", options.coefficients, "C…",
         "sizes to try, each with both signs, by which vectors and what latents add are "
         "multiplied; 2 4 6 8 10 12 if not given");
  option("max-kl", options.max_kl, "NATS", "the side effect that is accepted");
  option("prompt,p", prompts, "TEXT",
         "a user's message to answer at −c, 0 and +c of the chosen c; may be given more than once");
  option("max-tokens,n", generation.max_tokens, "N", "of each answer").needs("prompt");
  driver.common("seed").never("nothing here is random");
  driver.result({{"rows", "one per coefficient, the most negative first",
                  "coefficient, shift, positive_share, kl_mean, kl_p95"},
                 {"chosen", "the coefficient, or null"},
                 {"max_kl", ""},
                 {"baseline_preference", "of the model as it is, nats per token"},
                 {"generations", "three per --prompt", "prompt, coefficient, text"}});

  return driver.run(argc, argv, [&](const apps::CommonOptions& common) -> Json {
    if (vector_options.vectors.empty() && latent_options.sae.empty())
      throw UsageError("expected at least one --vector, or --sae with --latent");
    latent_options.check();
    options.steer = vector_options.steer_options();
    auto model = models::LanguageModel::load(model_path, common.torch_device());
    const apps::Interventions interventions =
        apps::read_interventions(vector_options, latent_options, model, common);
    const bool chat = !model.config().tokens.chat_format.empty();
    // What stands before the first edited block runs once.
    EffectMeter meter(model, read_continuation_pairs(heldout_path), read_prose(neutral_path),
                      {.chat = chat, .first_block = interventions.first_block(model)});

    if (const size_t single = meter.single_token_pairs();
        single > 0 && options.steer.positions == Positions::generated)
      common.warn(
          fmt::format("{} of {} pairs have continuations of one token, which only the prompt "
                      "predicts: they count in the shift with 0",
                      single, meter.pairs()));

    if (!common.json)
      fmt::print("{:>11} {:>10} {:>9} {:>9} {:>9}\n", "coefficient", "shift", "moved", "KL mean",
                 "KL p95");
    std::optional<Progress> progress(std::in_place, "Sweeping", 2 * options.coefficients.size() + 1,
                                     "coefficients", common.progress() && common.json);
    apps::AttachedInterventions attached = interventions.attach(model);
    const Sweep result =
        sweep([&](double coefficient) { attached.set_scale(coefficient); }, meter, options,
              [&](const SweepRow& row) {
                progress->advance(1);
                if (!common.json) print_row(row);
              });
    attached.require_fired();
    progress.reset();
    if (!result.chosen)
      common.warn(fmt::format("no coefficient moves the preference both ways with a KL within {}",
                              options.max_kl));

    Json rows = Json::array(), texts = Json::array();
    for (const SweepRow& row : result.rows) rows.push_back(row_json(row));
    if (result.chosen) {
      if (!common.json) fmt::print("chosen: ±{:g}\n", *result.chosen);
      for (const std::string& prompt : prompts) {
        if (!common.json) fmt::print("\n{}\n", prompt);
        for (const double coefficient : {-*result.chosen, 0.0, *result.chosen}) {
          attached.set_scale(coefficient);
          const auto text = models::generate(model, prompt, generation, chat).rows[0].text;
          if (!common.json) fmt::print("{:>+6.2g}: {}\n", coefficient, text);
          texts.push_back({{"prompt", prompt}, {"coefficient", coefficient}, {"text", text}});
        }
      }
    }
    return {{"rows", rows},
            {"chosen", result.chosen ? Json(*result.chosen) : Json(nullptr)},
            {"max_kl", options.max_kl},
            {"baseline_preference", meter.baseline_preference()},
            {"generations", texts}};
  });
}
