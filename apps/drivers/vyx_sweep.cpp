#include <algorithm>
#include <limits>
#include <optional>

#include "apps/options/driver.h"
#include "apps/options/vector_options.h"
#include "core/base/error.h"
#include "core/io/files.h"
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
  std::string model_path, pairs_path, neutral_path;
  std::vector<std::string> prompts;
  SweepOptions options;
  models::GenerateOptions generation{.max_tokens = 48, .sampling = {.repetition_penalty = 1.1}};
  apps::VectorOptions vector_options;

  apps::Driver driver(
      "vyx-sweep",
      "--model model.pt --vector happy.gguf --pairs heldout.jsonl --neutral neutral.txt",
      "Measures a control vector at several coefficients: how far the model's preference between "
      "pairs of\n"
      "continuations moves (shift, nats a token), and what happens to text that has nothing to do "
      "with it\n"
      "(KL of the steered from the unsteered model, nats a token). Chooses the strongest "
      "coefficient whose KL is\n"
      "within --max-kl with either sign.",
      "  vyx-sweep --model smollm2.pt --vector happy.gguf --sites 'model.layers.{8..21}' \\\n"
      "            --pairs apps/data/happy_heldout.jsonl --neutral apps/data/neutral.txt \\\n"
      "            --prompt 'How was your day?'");
  driver.options()("model,m", apps::po::value(&model_path)->required()->value_name("FILE"),
                   "the archive of vyx-import")(
      "pairs", apps::po::value(&pairs_path)->required()->value_name("FILE"),
      "JSON Lines of {\"prompt\", \"positive\", \"negative\"}, not those that the vector was made "
      "from")("neutral", apps::po::value(&neutral_path)->required()->value_name("FILE"),
              "plain text");
  vector_options.add_to(driver);
  driver.options()("coefficients",
                   apps::po::value(&options.coefficients)->multitoken()->value_name("C…"),
                   "magnitudes to try, each with both signs (2 4 6 8 10 12 if not given)")(
      "max-kl", apps::po::value(&options.max_kl)->default_value(options.max_kl)->value_name("NATS"),
      "the side effect that is accepted")(
      "prompt,p", apps::po::value(&prompts)->value_name("TEXT"),
      "a user's message to answer at −c, 0 and +c of the chosen c; may be given more than once")(
      "max-tokens,n",
      apps::po::value(&generation.max_tokens)
          ->default_value(generation.max_tokens)
          ->value_name("N"),
      "of each answer");

  return driver.run(argc, argv, [&](const apps::CommonOptions& common) -> Json {
    if (vector_options.vectors.empty()) throw UsageError("expected at least one --vector");
    generation.sampling.seed = common.seed;
    options.steer = vector_options.steer_options();
    auto model = models::LanguageModel::load(model_path, common.torch_device());
    const auto vectors = vector_options.read(model, common);
    const bool chat = !model.config().tokens.chat_format.empty();
    int64_t first_block = std::numeric_limits<int64_t>::max();  // what stands before it runs once
    for (const SiteEdit& edit : make_edits(model, vectors, options.steer))
      first_block = std::min(first_block, model.block_of(edit.site));
    EffectMeter meter(model, read_continuation_pairs(pairs_path), read_text_file(neutral_path),
                      {.chat = chat, .first_block = first_block});

    if (!common.json)
      fmt::print("{:>11} {:>10} {:>9} {:>9} {:>9}\n", "coefficient", "shift", "moved", "KL mean",
                 "KL p95");
    std::optional<Progress> progress(std::in_place, "Sweeping", 2 * options.coefficients.size() + 1,
                                     "coefficients", common.progress() && common.json);
    const Sweep result = sweep(model, vectors, meter, options, [&](const SweepRow& row) {
      progress->advance(1);
      if (!common.json) print_row(row);
    });
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
          Steering steering = steer(model, vectors, options.steer);
          steering.set_scale(coefficient);
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
