#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apps/options/driver.h"
#include "apps/options/sites.h"
#include "apps/options/stop_signal.h"
#include "apps/options/train_options.h"
#include "core/base/error.h"
#include "models/activations/harvest_inputs.h"
#include "models/language_model/language_model.h"
#include "sae/store/activation_store.h"
#include "sae/store/store_source.h"
#include "sae/store/streaming_source.h"
#include "sae/training/train.h"

namespace {

using namespace vyx;

/// Where the activations come from: a store, or a model and text.
struct DataOptions {
  std::string store, model;
  std::vector<std::string> text, sites, target_sites;
  models::TextInputOptions input;
};

struct Data {
  std::unique_ptr<models::LanguageModel> model;  // of a streaming source, which runs it
  std::vector<std::string> sites, target_sites;
  std::unique_ptr<sae::ActivationSource> source, target;
};

Data open_store(const DataOptions& options, int64_t batch, uint64_t seed) {
  const auto store = std::make_shared<const sae::ActivationStore>(options.store);
  Data data;
  data.sites = store->match(options.sites);
  data.target_sites = store->match(options.target_sites);
  if (options.sites.empty())  // all but the target
    for (const auto& site : store->manifest().sites)
      if (std::find(data.target_sites.begin(), data.target_sites.end(), site.site) ==
          data.target_sites.end())
        data.sites.push_back(site.site);
  const auto open = [&](const std::vector<std::string>& sites) {
    return std::make_unique<sae::StoreSource>(
        store, sae::StoreSourceOptions{.sites = sites, .batch = batch, .seed = seed});
  };
  data.source = open(data.sites);
  if (!data.target_sites.empty()) data.target = open(data.target_sites);
  return data;
}

Data open_stream(const DataOptions& options, int64_t batch, uint64_t seed, c10::Device device) {
  if (!options.target_sites.empty())
    throw UsageError("--target-sites: expected --activations with it");
  models::TextSource text({options.text.begin(), options.text.end()});
  Data data;
  data.model =
      std::make_unique<models::LanguageModel>(models::LanguageModel::load(options.model, device));
  models::HarvestOptions harvest;
  harvest.sites = apps::sites_of(data.model->module(), options.sites);
  for (const Site& site : harvest.sites) data.sites.push_back(site.name());
  data.source = std::make_unique<sae::StreamingSource>(
      std::make_unique<models::Harvest>(
          models::text_input(*data.model, std::move(text), options.input), harvest),
      sae::StreamingSourceOptions{.batch = batch, .seed = seed});
  return data;
}

Json result_json(const sae::TrainResult& result, const std::string& out) {
  return {{"out", out},
          {"finished", result.finished},
          {"step", result.step},
          {"tokens", result.tokens},
          {"seconds", result.seconds},
          {"metrics", result.metrics},
          {"warnings", result.warnings},
          {"checkpoint", result.checkpoint.string()}};
}

void print_result(const sae::TrainResult& result, const std::string& out) {
  const auto number = [&](const char* key) {
    return result.metrics.is_object() && result.metrics[key].is_number()
               ? result.metrics[key].get<double>()
               : 0;
  };
  fmt::print(
      "{}: {} steps, {} tokens: explained variance {:.3f}, L0 {:.1f}, {:.1f} % of the latents "
      "dead; {:.1f} s\n",
      out, result.step, result.tokens, number("explained_variance"), number("l0"),
      100 * number("dead_fraction"), result.seconds);
  if (result.finished) fmt::print("the curves are in {}/training.html\n", out);
}

}  // namespace

int main(int argc, char** argv) {
  DataOptions data_options;
  std::string out;
  bool resume = false, overwrite = false;

  apps::Driver driver(
      "vyx-sae-train", "--activations store/ --architecture topk --latents 9216 --out sae/",
      "Trains a sparse autoencoder on activations. Stopped (SIGINT, SIGTERM) or killed, it goes on "
      "with --resume to the same weights, bit for bit. The folder gets a SAELens autoencoder, "
      "metrics.jsonl, training.html and checkpoints/.",
      "  vyx-sae-train --activations store --latents 9216 --k 32 --out sae\n"
      "  vyx-sae-train --activations store --latents 9216 --k 32 --out sae --resume\n"
      "  vyx-sae-train --activations store --architecture jump-relu --sparsity-form l0-target "
      "\\\n"
      "                --l0-target 40 --latents 9216 --tokens 10000000 --out sae\n"
      "  vyx-sae-train --model smollm2.pt --text corpus.jsonl.gz --sites model.layers.14 \\\n"
      "                --latents 9216 --tokens 1000000 --out sae");
  auto& option = driver.options();
  option("activations", data_options.store, "FOLDER", "the store of vyx-harvest");
  option("model,m", data_options.model, "FILE",
         "instead: harvest while training, from this archive of vyx-import …");
  option("text,t", data_options.text, "FILE…", std::string("… over ") + apps::kTextHelp);
  option("context", data_options.input.context, "N", "… tokens of text that see each other");
  option("sites,s", data_options.sites, "PATTERN…",
         "of the activations; several are a crosscoder's; all of the store's if not given");
  option("target-sites", data_options.target_sites, "PATTERN…",
         "of the store, what a transcoder reconstructs");
  option("out,o", out, "FOLDER", "the run's folder", apps::kRequired);
  option("resume", resume, "go on from the newest checkpoint");
  option("overwrite", overwrite, "start again, whatever --out holds");
  apps::RecipeOptions recipe_options(driver);
  option.writes("out");
  driver.result({{"out", "the folder"},
                 {"finished", "false: stopped by a signal, and saved"},
                 {"step", "the last one"},
                 {"tokens", "trained on"},
                 {"seconds", ""},
                 {"metrics", "the last line of metrics.jsonl"},
                 {"warnings",
                  "what is wrong with these metrics, in sentences; none: nothing was "
                  "found, or the run is not finished"},
                 {"checkpoint", "the newest one"}});

  bool stopped = false;
  const int code = driver.run(argc, argv, [&](const apps::CommonOptions& common) -> Json {
    if (resume && overwrite) throw UsageError("expected one of --resume and --overwrite");
    if (data_options.store.empty() == data_options.model.empty())
      throw UsageError("expected one of --activations and --model");
    if (data_options.store.empty() && (data_options.text.empty() || data_options.sites.empty()))
      throw UsageError("--model: expected --text and --sites with it");
    const c10::Device device = common.torch_device();
    if (!data_options.store.empty() && !device.is_cpu())
      throw UsageError(fmt::format(
          "--device {} with --activations: training runs on the CPU, and there is no model to run; "
          "leave it out",
          common.device));
    if (!data_options.store.empty() && !data_options.text.empty())
      throw UsageError("--text has no effect with --activations; expected --model with it");
    if (recipe_options.skip() && data_options.target_sites.empty())
      throw UsageError("--skip: expected --target-sites, a transcoder's, with it");
    recipe_options.check();
    const Data data = data_options.model.empty()
                          ? open_store(data_options, recipe_options.batch(), common.seed)
                          : open_stream(data_options, recipe_options.batch(), common.seed, device);
    sae::TrainOptions options = recipe_options.options(*data.source, common.seed);
    options.autoencoder.sites = data.sites;
    options.autoencoder.target_sites = data.target_sites;
    if (data.target) options.autoencoder.subtract_decoder_bias = false;

    std::optional<Progress> progress;
    apps::catch_stop_signals();
    const sae::TrainResult result = sae::train(
        *data.source, data.target.get(), options, out,
        resume      ? sae::ExistingRun::resume
        : overwrite ? sae::ExistingRun::overwrite
                    : sae::ExistingRun::refuse,
        {.on_start =
             [&](uint64_t step, uint64_t) {
               progress.emplace("Training",
                                (options.steps - step) * static_cast<uint64_t>(options.batch),
                                "tokens", common.progress());
             },
         .on_step = [&](uint64_t tokens) { progress->advance(tokens); },
         .on_note = [&](const std::string& note) { common.warn(note); },
         .should_stop = [] { return apps::stop_signal() != 0; }});
    progress.reset();
    stopped = !result.finished;
    if (stopped)
      common.warn(fmt::format("stopped after step {} of {} and saved; --resume goes on",
                              result.step, options.steps));
    if (!common.json) print_result(result, out);
    for (const std::string& warning : result.warnings)
      common.warn(fmt::format("{}: {}", out, warning));
    return result_json(result, out);
  });
  return code == 0 && stopped ? 128 + apps::stop_signal() : code;
}
