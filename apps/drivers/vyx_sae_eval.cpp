#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <numeric>
#include <optional>

#include "apps/options/driver.h"
#include "core/base/error.h"
#include "core/base/random.h"
#include "core/io/files.h"
#include "models/activations/packing.h"
#include "sae/files/autoencoder_file.h"
#include "sae/metrics/latent_statistics.h"
#include "sae/metrics/metrics.h"
#include "sae/metrics/recovered.h"
#include "sae/store/activation_store.h"

namespace {

using vyx::Json;
using namespace vyx::sae;
using Rows = std::vector<std::vector<vyx::models::TokenId>>;

constexpr uint64_t kRowsAtOnce = 4096;

struct Options {
  std::string sae, activations, model, out, latents;
  std::vector<std::string> text, sites;
  uint64_t rows = 65'536;    // of the store; 0: all
  uint64_t tokens = 16'384;  // of the text; 0: all
  int64_t context = 256;
  bool replace_all = false;
};

void validate(const Options& options) {
  if (options.activations.empty() && options.model.empty())
    throw vyx::UsageError(
        "found nothing to measure on, expected --activations, or --model and --text");
  if (options.model.empty() != options.text.empty())
    throw vyx::UsageError("found only one of --model and --text, expected both");
  if (options.activations.empty() && !options.latents.empty())
    throw vyx::UsageError(
        "--latents-out without --activations; expected a store to measure the latents on");
  for (const std::string& path : {options.out, options.latents})
    if (!path.empty()) vyx::require_writable(path);
}

/// On rows of the store, drawn at random without any of them twice.
MetricsAccumulator measure_store(const Autoencoder& sae, const Options& options,
                                 const vyx::apps::CommonOptions& common) {
  const ActivationStore store(options.activations);
  const auto open = [&](const std::vector<std::string>& names, int64_t width) {
    const std::vector<size_t> sites = store.find(names);
    if (store.width(sites) != width)
      vyx::fail(
          "{}: found rows of width {}, expected {}, that of {}; harvest the autoencoder's own site",
          options.activations, store.width(sites), width, options.sae);
    return sites;
  };
  const std::vector<size_t> inputs = open(sae.config.sites, sae.config.d_in);
  const bool transcoder = !sae.config.target_sites.empty();
  const std::vector<size_t> targets =
      transcoder ? open(sae.config.target_sites, sae.config.d_out) : inputs;

  const uint64_t count = options.rows == 0 ? store.rows() : std::min(options.rows, store.rows());
  if (count == 0)
    vyx::fail("{}: found no rows, expected at least one; harvest some text", options.activations);
  const vyx::Permutation order(store.rows(), common.seed);
  MetricsAccumulator accumulator(sae.config.d_out, sae.config.latents);
  vyx::Progress progress("Measuring", count, "rows", common.progress());
  std::vector<uint64_t> rows;
  for (uint64_t first = 0; first < count; first += rows.size()) {
    rows.clear();
    for (uint64_t i = first; i < std::min(count, first + kRowsAtOnce); ++i)
      rows.push_back(order(i));
    std::sort(rows.begin(), rows.end());              // read as they lie
    const at::Tensor x = store.gather(rows, inputs);  // [rows, d_in]
    add(accumulator, sae, x, transcoder ? store.gather(rows, targets) : at::Tensor());
    progress.advance(rows.size());
  }
  return accumulator;
}

/// The text's documents in rows of at most `context` tokens, as a harvest cuts them.
Rows read_rows(const vyx::models::LanguageModel& model, const Options& options) {
  const auto& config = model.config();
  if (options.context > config.context_length)
    throw vyx::UsageError(fmt::format("--context {}: expected at most the model's {} tokens",
                                      options.context, config.context_length));
  vyx::models::Packer packer(vyx::models::TextSource({options.text.begin(), options.text.end()}),
                             model.tokenizer(),
                             {.context = options.context,
                              .begin_token = config.tokens.add_bos ? config.tokens.bos : -1,
                              .pad_token = model.pad_token()});
  Rows rows = vyx::models::segments_of(packer, options.tokens == 0 ? UINT64_MAX : options.tokens);
  if (rows.empty())
    vyx::fail("{}: found no text, expected some to measure with", options.text.front());
  return rows;
}

Recovered measure_text(const Autoencoder& sae, const Options& options,
                       const vyx::apps::CommonOptions& common) {
  auto model = vyx::models::LanguageModel::load(options.model, common.torch_device());
  const Rows rows = read_rows(model, options);
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

void print(const Metrics& metrics) {
  const auto line = [](const char* what, double value) {
    fmt::print("{:<30} {:>9.4f}\n", what, value);
  };
  fmt::print("{:<30} {:>9}\n", "rows", metrics.tokens);
  line("explained variance", metrics.explained_variance);
  line("normalised MSE", metrics.normalized_mse);
  line("cosine", metrics.cosine);
  line("l2 ratio", metrics.l2_ratio);
  line("relative reconstruction bias", metrics.relative_reconstruction_bias);
  fmt::print("{:<30} {:>9.2f}\n", "L0", metrics.l0);
  fmt::print("{:<30} {:>9.2f} %\n", "dead latents", 100 * metrics.dead_fraction);
  // By decades of the histogram, those below 1e-5 together.
  const auto& bins = metrics.density.latents;
  const size_t decade = bins.size() / 10;
  const auto count = [&](size_t first, size_t last) {  // of decades
    return std::accumulate(bins.begin() + first * decade, bins.begin() + last * decade, int64_t{0});
  };
  fmt::print("{:<24}", "latents by frequency");
  for (const char* below : {"never", "< 1e-5", "< 1e-4", "< 1e-3", "< 0.01", "< 0.1", "<= 1"})
    fmt::print(" {:>8}", below);
  fmt::print("\n{:<24} {:>8} {:>8}", "", count(0, 1), count(1, 5));
  for (size_t d = 5; d < 10; ++d) fmt::print(" {:>8}", count(d, d + 1));
  fmt::print("\n");
}

void print(const Recovered& recovered) {
  fmt::print(
      "\n{} tokens predicted; {} rows replaced, {} left as they are (special tokens, attention "
      "sinks)\n",
      recovered.tokens, recovered.replaced, recovered.left);
  fmt::print("{:<16} {:>14} {:>10} {:>14} {:>14}\n", "", "cross-entropy", "KL", "CE recovered",
             "KL recovered");
  fmt::print("{:<16} {:>14.4f} {:>10.4f}\n", "clean", recovered.clean.cross_entropy,
             recovered.clean.kl);
  fmt::print("{:<16} {:>14.4f} {:>10.4f}\n", "reconstruction",
             recovered.reconstruction.cross_entropy, recovered.reconstruction.kl);
  const auto ablation = [&](const char* what, const Recovered::Loss& loss) {
    fmt::print("{:<16} {:>14.4f} {:>10.4f} {:>12.2f} % {:>12.2f} %\n", what, loss.cross_entropy,
               loss.kl, 100 * recovered.cross_entropy_score(loss), 100 * recovered.kl_score(loss));
  };
  ablation("zero ablation", recovered.zero);
  ablation("mean ablation", recovered.mean);
}

}  // namespace

int main(int argc, char** argv) {
  using namespace vyx;
  Options options;
  apps::Driver driver(
      "vyx-sae-eval", "--sae sae/ [--activations store/] [--model model.pt --text FILE…]",
      "Measures a sparse autoencoder: how well it reconstructs the rows of an activation store and "
      "how its latents fire there; and,\n"
      "with a model and text, how much of the model's cross-entropy and of its distribution (KL) "
      "survives when the activation is\n"
      "replaced by its reconstruction, against replacing it by zero and by its mean.",
      "  vyx-sae-eval --sae sae --activations store\n"
      "  vyx-sae-eval --sae sae --activations store --model smollm2.pt --text heldout.txt --out "
      "report.json");
  driver.options()("sae", apps::po::value(&options.sae)->required()->value_name("FOLDER"),
                   "the autoencoder, in any format that vyx reads")(
      "activations", apps::po::value(&options.activations)->value_name("FOLDER"),
      "a store of vyx-harvest")(
      "rows", apps::po::value(&options.rows)->default_value(options.rows)->value_name("N"),
      "of the store, drawn at random; 0: all")(
      "model", apps::po::value(&options.model)->value_name("FILE"), "the archive of vyx-import")(
      "text", apps::po::value(&options.text)->multitoken()->value_name("FILE…"),
      "text, JSON Lines (.jsonl), or either as .gz")(
      "tokens", apps::po::value(&options.tokens)->default_value(options.tokens)->value_name("N"),
      "of the text; 0: all")(
      "context", apps::po::value(&options.context)->default_value(options.context)->value_name("N"),
      "tokens of text that see each other")(
      "replace-all", apps::po::bool_switch(&options.replace_all),
      "replace special tokens and attention sinks too (rows whose norm is more than 10 times the "
      "median)")("site", apps::po::value(&options.sites)->composing()->value_name("SITE"),
                 "where the autoencoder belongs, if its file does not say")(
      "latents-out", apps::po::value(&options.latents)->value_name("FILE"),
      "safetensors of each latent's firings and largest activation on the rows")(
      "out,o", apps::po::value(&options.out)->value_name("FILE"), "the report as JSON");

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
      const MetricsAccumulator accumulator = measure_store(sae, options, common);
      if (!options.latents.empty()) write_latent_statistics(options.latents, accumulator.latents());
      metrics = accumulator.metrics();
      report["metrics"] = to_json(*metrics);
    }
    std::optional<Recovered> recovered;
    if (!options.model.empty()) {
      recovered = measure_text(sae, options, common);
      report["recovered"] = to_json(*recovered);
    }
    if (!common.json) {
      fmt::print("{}: {}, {} latents of {} at {}\n", options.sae, name_of(config.architecture),
                 config.latents, config.d_in, fmt::join(config.sites, ", "));
      if (metrics) print(*metrics);
      if (recovered) print(*recovered);
    }
    if (!options.out.empty()) write_file(options.out, report.dump(2) + "\n");
    return report;
  });
}
