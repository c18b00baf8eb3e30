#include <ATen/Functions.h>
#include <fmt/ranges.h>

#include <string>
#include <utility>
#include <vector>

#include "apps/options/driver.h"
#include "apps/options/latent_options.h"
#include "core/base/error.h"
#include "core/base/version.h"
#include "core/edits/implicit_statistics.h"
#include "core/formats/tensor_file.h"
#include "core/io/files.h"
#include "models/activations/harvest_inputs.h"
#include "models/activations/text_source.h"
#include "steering/files/control_vector_file.h"

namespace {

using namespace vyx;

struct Options {
  std::string model, out, gguf;
  std::vector<std::string> text;
  int64_t tokens = 8192;
  models::TextInputOptions input;
  apps::LatentOptions latents;
  bool allow_other_model = false;
};

struct Vectors {
  at::Tensor v;       // [tokens, d]
  at::Tensor tokens;  // [tokens] int64: their ids
  at::Tensor places;  // [tokens] int64: Harvest::places()
  models::HarvestCounts counts;
};

/// What the intervention would add at the tokens of the text, as the model runs without it.
Vectors implicit_vectors(models::LanguageModel& model, const apps::LatentIntervention& intervention,
                         const Options& options, const apps::CommonOptions& common) {
  const Edit edit = intervention.edit();
  models::Harvest harvest(
      models::text_input(model, models::TextSource({options.text.begin(), options.text.end()}),
                         options.input),
      {.sites = {intervention.site}});
  Progress progress("Reading", static_cast<uint64_t>(options.tokens), "tokens", common.progress());
  std::vector<at::Tensor> v, tokens, places;  // a forward each
  for (int64_t left = options.tokens; left > 0;) {
    const auto rows = harvest.next();
    if (!rows) break;
    const at::Tensor x = rows->front().slice(0, 0, left);  // [rows, d]
    if (x.size(0) == 0) continue;
    v.push_back(implicit_vector(edit, x));
    tokens.push_back(harvest.tokens().slice(0, 0, left));
    places.push_back(harvest.places().slice(0, 0, left));
    left -= x.size(0);
    progress.advance(static_cast<uint64_t>(x.size(0)));
  }
  if (v.empty()) fail("{}: found no token to measure on, expected some text", options.text.front());
  return {at::cat(v), at::cat(tokens), at::cat(places), harvest.counts()};
}

steering::ControlVector mean_vector(const models::LanguageModelConfig& config, const Site& site,
                                    const ImplicitStatistics& statistics, const Options& options) {
  steering::ControlVector result;
  result.provenance = {.model_name = config.provenance.name,
                       .model_hint = config.architecture,
                       .model_sha256 = config.provenance.sha256,
                       .method = fmt::format("mean implicit vector of --latent {}",
                                             fmt::join(options.latents.latents, " --latent ")),
                       .contrast_source = options.latents.sae,
                       .vyx_version = std::string(kVersion)};
  result.directions.push_back({site, {statistics.mean, {}}});
  return result;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  apps::Driver driver(
      "vyx-implicit",
      "--model model.pt --sae sae/ --latent 2938=3x --text FILE… --out v.safetensors",
      "Measures the implicit vector v = y − x of a change of latents, what it adds to the "
      "activation x of each token of a text: its mean, its norm, and how constant it is, as a "
      "control vector is. Its mean is written as a control vector, too.",
      "  vyx-implicit --model smollm2.pt --sae sae --latent 2938=3x --text heldout.txt \\\n"
      "               --out v.safetensors --gguf v.gguf\n"
      "  vyx-generate --model smollm2.pt --prompt 'How was your day?' --vector v.gguf=1");
  auto& option = driver.options();
  option("model,m", options.model, "FILE", "the archive of vyx-import", apps::kRequired);
  option("text,t", options.text, "FILE…", apps::kTextHelp, apps::kRequired);
  options.latents.add_to(driver);
  option("tokens,n", options.tokens, "N",
         "of the text, at most; special tokens and attention sinks are left out");
  option("context", options.input.context, "N", "tokens of text that see each other");
  option("out,o", options.out, "FILE",
         "safetensors: vectors [tokens, d], mean [d]; and, all [tokens], norms, cosines of v with "
         "the mean, tokens (their ids), contexts (which piece of --context tokens of the text) and "
         "positions (which token in it)",
         apps::kRequired);
  option("gguf", options.gguf, "FILE",
         "the mean as a control vector, for vyx, llama.cpp and repeng");
  option.writes("out");
  option.writes("gguf");
  option("allow-other-model", options.allow_other_model,
         "take an autoencoder that was trained on another model");
  driver.common("seed").never("nothing here is random");
  driver.result({{"site", ""},
                 {"latents", "as given"},
                 {"tokens", "that v was measured at"},
                 {"left_out", "tokens", "special, sinks"},
                 {"mean_norm", "norm of the mean of v"},
                 {"rms_norm", "root mean square of v's norms"},
                 {"spread", "0: v is the same at every token"},
                 {"mean_cosine", "of v with its mean"}});

  return driver.run(argc, argv, [&](const apps::CommonOptions& common) -> Json {
    options.latents.check();
    if (options.latents.sae.empty()) throw UsageError("expected --sae and --latent");
    if (options.latents.latents.empty() && !options.latents.without_error)
      throw UsageError("found nothing to change, expected --latent");
    if (options.tokens < 1)
      throw UsageError(fmt::format("--tokens {}: expected at least 1", options.tokens));
    for (const std::string& path : {options.out, options.gguf})
      if (!path.empty()) require_writable(path);
    auto model = models::LanguageModel::load(options.model, common.torch_device());
    const apps::LatentIntervention intervention =
        options.latents.read(model, options.allow_other_model);
    const auto [v, tokens, places, counts] = implicit_vectors(model, intervention, options, common);
    const ImplicitStatistics statistics = implicit_statistics(v);

    const Json report{{"site", intervention.site.name()},
                      {"latents", options.latents.latents},
                      {"tokens", statistics.tokens},
                      {"left_out", {{"special", counts.special}, {"sinks", counts.sinks}}},
                      {"mean_norm", statistics.mean_norm},
                      {"rms_norm", statistics.rms_norm},
                      {"spread", statistics.spread},
                      {"mean_cosine", statistics.mean_cosine}};
    write_safetensors(options.out,
                      {{"vectors", v.to(at::kCPU, at::kFloat)},
                       {"mean", statistics.mean},
                       {"norms", statistics.norms},
                       {"cosines", statistics.cosines},
                       {"tokens", tokens},
                       {"contexts", places.floor_divide(options.input.context)},
                       {"positions", places.remainder(options.input.context)}},
                      {{"implicit_vector", report.dump()}});
    if (!options.gguf.empty())
      steering::write_control_vector(
          mean_vector(model.config(), intervention.site, statistics, options), options.gguf);
    if (!common.json) {
      fmt::print("{}: {} tokens of {}, without {} special tokens and {} attention sinks\n",
                 intervention.site.name(), statistics.tokens, fmt::join(options.text, ", "),
                 counts.special, counts.sinks);
      fmt::print("{:<32} {:>9.4f}\n{:<32} {:>9.4f}\n", "norm of the mean", statistics.mean_norm,
                 "root mean square of the norms", statistics.rms_norm);
      fmt::print("{:<32} {:>9.4f}  (0: the same at every token, as a control vector is)\n",
                 "spread", statistics.spread);
      fmt::print("{:<32} {:>9.4f}\n", "mean cosine with the mean", statistics.mean_cosine);
    }
    return report;
  });
}
