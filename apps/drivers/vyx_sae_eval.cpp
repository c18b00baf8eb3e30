#include <fmt/ranges.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "apps/options/driver.h"
#include "core/base/error.h"
#include "core/io/files.h"
#include "models/activations/text_rows.h"
#include "sae/files/autoencoder_file.h"
#include "sae/latents/model_site.h"
#include "sae/metrics/degenerate.h"
#include "sae/metrics/latent_statistics.h"
#include "sae/metrics/recovered.h"
#include "sae/metrics/store_metrics.h"

namespace {

using vyx::Json;
using namespace vyx::sae;

struct Options {
  std::string sae, activations, model, out, latents;
  std::vector<std::string> text, sites;
  StoreMetricsOptions metrics;
  vyx::models::TextRowsOptions rows{.max_tokens = 16'384};
  bool replace_all = false, allow_other_model = false;
};

void validate(const Options& options) {
  if (options.activations.empty() && options.model.empty())
    throw vyx::UsageError(
        "found nothing to measure on, expected --activations, or --model and --text");
  if (options.model.empty() != options.text.empty())
    throw vyx::UsageError("found only one of --model and --text, expected both");
  for (const std::string& path : {options.out, options.latents})
    if (!path.empty()) vyx::require_writable(path);
}

MetricsAccumulator measure(const Autoencoder& sae, const Options& options,
                           const vyx::apps::CommonOptions& common) {
  std::optional<vyx::Progress> progress;
  StoreMetricsOptions metrics = options.metrics;
  metrics.seed = common.seed;
  metrics.on_rows = [&](uint64_t done, uint64_t total) {
    if (!progress) progress.emplace("Measuring", total, "rows", common.progress());
    progress->advance(done - progress->done());
  };
  const ActivationStore store(options.activations);
  require_own_model(sae, options.sae, identity_of(store.manifest().recipe),
                    options.allow_other_model);
  return measure_store(sae, store, options.sae, metrics);
}

Recovered measure_text(const Autoencoder& sae, const Options& options,
                       const vyx::apps::CommonOptions& common) {
  auto model = vyx::models::LanguageModel::load(options.model, common.torch_device());
  require_own_model(sae, options.sae, identity_of(model), options.allow_other_model);
  const auto rows = vyx::models::read_text_rows(model, options.text, options.rows);
  uint64_t tokens = 0;
  for (const auto& row : rows) tokens += row.size();
  vyx::Progress progress("Replacing", tokens, "tokens", common.progress());
  RecoveredOptions recovered{.on_tokens = [&](uint64_t done) { progress.advance(done); }};
  if (options.replace_all) {
    recovered.sink_threshold = 0;
    recovered.replace_special = true;
  }
  return measure_recovered(model, sae, rows, recovered);
}

}  // namespace

int main(int argc, char** argv) {
  using namespace vyx;
  Options options;
  apps::Driver driver(
      "vyx-sae-eval", "--sae sae/ [--activations store/] [--model model.pt --text FILE…]",
      "Measures a sparse autoencoder: how well it reconstructs the rows of an activation store and "
      "how its latents fire there; and, with a model and text, how much of the model's "
      "cross-entropy and of its distribution (KL) survives when the activation is replaced by its "
      "reconstruction, against replacing it by zero and by its mean.",
      "  vyx-sae-eval --sae sae --activations store\n"
      "  vyx-sae-eval --sae sae --activations store --model smollm2.pt --text heldout.txt \\\n"
      "               --out report.json");
  auto& option = driver.options();
  option("sae", options.sae, "PATH", "the autoencoder, in any format that vyx reads",
         apps::kRequired);
  option("activations", options.activations, "FOLDER", "the store of vyx-harvest");
  option("rows", options.metrics.rows, "N", "of the store, drawn at random; 0: all")
      .needs("activations");
  option("model,m", options.model, "FILE", "the archive of vyx-import");
  option("text,t", options.text, "FILE…", apps::kTextHelp);
  option("tokens,n", options.rows.max_tokens, "N", "of the text, at most; 0: all").needs("model");
  option("context", options.rows.context, "N", "tokens of text that see each other").needs("model");
  option("replace-all", options.replace_all,
         "replace special tokens and attention sinks too (rows whose norm is more than 10 times "
         "the median)")
      .needs("model");
  option("site", options.sites, "SITE",
         "where the autoencoder belongs, if its file does not say; of a crosscoder one each");
  option("allow-other-model", options.allow_other_model,
         "take a model, or its activations, that the autoencoder was not trained on");
  option("latents-out", options.latents, "FILE",
         "safetensors of each latent's firings and largest activation on the rows")
      .needs("activations");
  option("out,o", options.out, "FILE", "what --json prints, as a file");
  option.writes("out");
  option.writes("latents-out");
  driver.common("seed").needs("activations").unless("rows", "0");  // of the rows that are drawn
  driver.common("device").needs("model");
  driver.result(
      {{"sae", "as given"},
       {"architecture", "such as topk"},
       {"latents", "size of the dictionary"},
       {"width", "of the activations, d"},
       {"sites", "where the autoencoder belongs"},
       {"warnings", "what is wrong with these numbers, in sentences; none: nothing was found"},
       {"metrics?", "with --activations, on its rows",
        "tokens, mse, explained_variance, normalized_mse, cosine, l2_ratio, "
        "relative_reconstruction_bias, l0, dead_fraction, density_histogram"},
       {"metrics.density_histogram", "latents by log10 of how often they fire; the first: never",
        "lowest, highest, latents"},
       {"recovered?", "with --model, on its predictions for the text",
        "tokens, replaced, left, clean, reconstruction, zero, mean, against_zero, against_mean"},
       {"recovered.clean", "and .reconstruction, .zero, .mean: nats per token",
        "cross_entropy, kl"},
       {"recovered.against_zero", "and .against_mean: the share that is recovered",
        "cross_entropy_score, kl_score"}});

  return driver.run(argc, argv, [&](const apps::CommonOptions& common) -> Json {
    validate(options);
    Autoencoder sae = load_autoencoder(options.sae);
    if (!options.sites.empty()) sae.config.sites = options.sites;
    if (sae.config.sites.empty())
      fail("{}: found no site in it, expected the one that it was trained on; give --site",
           options.sae);

    const auto& config = sae.config;
    Json report{{"sae", options.sae},
                {"architecture", name_of(config.architecture)},
                {"latents", config.latents},
                {"width", config.d_in},
                {"sites", config.sites}};
    std::optional<Metrics> metrics;
    if (!options.activations.empty()) {
      const MetricsAccumulator accumulator = measure(sae, options, common);
      if (!options.latents.empty()) write_latent_statistics(options.latents, accumulator.latents());
      metrics = accumulator.metrics();
      report["metrics"] = to_json(*metrics);
    }
    std::vector<std::string> warnings;
    if (metrics) warnings = degenerate(*metrics, config);
    std::optional<Recovered> recovered;
    if (!options.model.empty()) {
      recovered = measure_text(sae, options, common);
      report["recovered"] = to_json(*recovered);
      for (std::string& line : degenerate(*recovered)) warnings.push_back(std::move(line));
    }
    for (const std::string& warning : warnings)
      common.warn(fmt::format("{}: {}", options.sae, warning));
    report["warnings"] = warnings;
    if (!common.json) {
      fmt::print("{}: {}, {} latents of {} at {}\n", options.sae, name_of(config.architecture),
                 config.latents, config.d_in, fmt::join(config.sites, ", "));
      if (metrics) fmt::print("{}", to_text(*metrics));
      if (recovered) fmt::print("{}", to_text(*recovered));
    }
    if (!options.out.empty())
      write_file(
          options.out,
          apps::with_version(report).dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
    return report;
  });
}
