#include <ATen/TensorOperators.h>
#include <c10/util/accumulate.h>
#include <fmt/ranges.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apps/options/driver.h"
#include "apps/options/sites.h"
#include "core/base/error.h"
#include "core/base/utf8_stream.h"
#include "core/formats/tensor_file.h"
#include "core/hooks/script_archive.h"
#include "core/io/digest.h"
#include "models/activations/harvest_inputs.h"
#include "models/language_model/language_model.h"
#include "sae/store/harvest_to_store.h"

namespace {

using namespace vyx;

models::TextFormat format_from_name(const std::string& name) {
  if (name == "auto") return models::TextFormat::automatic;
  if (name == "plain") return models::TextFormat::plain;
  if (name == "jsonl") return models::TextFormat::json_lines;
  throw UsageError(fmt::format("--text-format {}: expected auto, plain or jsonl", name));
}

constexpr const char *kUsualMask = "attention_mask", *kNoMask = "none";

/// The input that is the mask of padding: the one that was named, else the usual one if it has
/// padding, which a line says.
std::string mask_of(const apps::CommonOptions& common, const TensorMap& inputs,
                    const std::string& named) {
  if (named == kNoMask) return "";
  if (!named.empty()) return named;
  const auto usual = inputs.find(kUsualMask);
  if (usual == inputs.end() || usual->second.dim() != 2) return "";
  const at::Tensor is_padding = usual->second == 0;  // [n, seq]
  const int64_t padding = is_padding.sum().item<int64_t>();
  if (padding == 0) return "";
  if (!(is_padding | (usual->second == 1)).all().item<bool>()) {
    common.warn(
        fmt::format("{} holds more than 0 and 1, and is not taken for a mask of padding: every row "
                    "is kept",
                    kUsualMask));
    return "";
  }
  common.warn(
      fmt::format("{} is taken for the mask of padding: {} of {} places are left out; --mask {} "
                  "keeps them",
                  kUsualMask, padding, usual->second.numel(), kNoMask));
  return kUsualMask;
}

/// How values were read that may be meant in another way: which dimension, which of several
/// tensors, and what a trace made of them.
void warn_about_readings(const apps::CommonOptions& common, const models::Harvest& harvest,
                         bool traced) {
  for (size_t i = 0; i < harvest.readings().size(); ++i) {
    const auto& [shape, place] = harvest.readings()[i];
    std::vector<std::string> remarks;
    if (shape.size() > 2)
      remarks.push_back(fmt::format("read as {} rows of {} values along the last dimension",
                                    c10::multiply_integers(shape.begin(), shape.end() - 1),
                                    shape.back()));
    if (!place.empty()) remarks.push_back(fmt::format("{} is the first of several tensors", place));
    if (traced)
      remarks.emplace_back(
          "the module was traced, and a trace keeps of a submodule's value what is used of it");
    if (!remarks.empty())
      common.warn(fmt::format("{}: found [{}]: {}", harvest.sites()[i].name(),
                              fmt::join(shape, ", "), fmt::join(remarks, "; ")));
  }
}

/// Why there is not all that was asked for, or only of a part of the inputs.
void warn_about_extent(const apps::CommonOptions& common, const sae::StoreManifest& manifest,
                       uint64_t asked) {
  const int64_t examples = manifest.input.value("examples", int64_t{0}),
                of = manifest.input.value("of", int64_t{0});
  if (manifest.rows < asked)
    common.warn(fmt::format("the {} ended before the {} rows that were asked for",
                            of > 0 ? "inputs" : "text", asked));
  else if (examples < of)
    common.warn(fmt::format(
        "the rows are of the first {} of {} examples of the inputs; ask for more --tokens, "
        "or give an order that mixes them",
        examples, of));
}

/// What was not as it should be, as warnings.
void warn_about_input(const apps::CommonOptions& common, const Json& input) {
  const std::pair<const char*, const char*> kinds[] = {
      {"malformed", "sequences that are not UTF-8 were replaced by U+FFFD"},
      {"nul_bytes", "NUL bytes were left out"},
      {"carriage_returns", "carriage returns before line ends were left out"},
      {"byte_order_marks", "byte order marks were left out"},
      {"empty", "documents of nothing but white space were left out"}};
  const Json counts = input.value("counts", Json::object());
  for (const auto& [key, text] : kinds)
    if (const uint64_t count = counts.value(key, uint64_t{0}); count > 0)
      common.warn(fmt::format("the text: {} {}", count, text));
  if (const uint64_t count = input.value("bytes_without_token", uint64_t{0}); count > 0)
    common.warn(
        fmt::format("the text: {} bytes that the vocabulary cannot spell were left out", count));
}

uint64_t bytes_of(const sae::StoreManifest& manifest) {
  uint64_t bytes = 0;
  for (const auto& shard : manifest.shards) bytes += shard.bytes;
  return bytes;
}

void print_summary(const std::string& out, const sae::HarvestToStoreResult& result,
                   double seconds) {
  const sae::StoreManifest& manifest = result.manifest;
  if (result.was_finished) {
    fmt::print("{}: was finished already\n", out);
  } else if (result.resumed_rows > 0) {
    fmt::print("{}: went on after {} rows\n", out, result.resumed_rows);
  }
  fmt::print("{}: {} rows in {}, {:.0f} MB, {} shards, of {} tokens\n", out, manifest.rows,
             sae::dtype_name(manifest.type), bytes_of(manifest) / 1e6, manifest.shards.size(),
             manifest.tokens);
  fmt::print("  left out: {} attention sinks, {} special tokens\n",
             manifest.left_out.value("sinks", uint64_t{0}),
             manifest.left_out.value("special", uint64_t{0}));
  const Json sinks_at = manifest.left_out.value("sinks_at", Json::object());
  for (const auto& [site, sinks] : sinks_at.items())
    if (const auto count = sinks.get<uint64_t>(); count > 0)
      fmt::print("    {} are sinks at {}, and are left out at every site\n", count, site);
  for (const auto& site : manifest.sites)
    fmt::print(
        "  {:<32} width {}, norm: mean {:.4g}, median {:.4g}, largest {:.4g}, left out beyond "
        "{:.4g}\n",
        site.site, site.width, site.norm_mean, site.norm_median, site.norm_max,
        site.norm_threshold);
  if (!result.was_finished)
    fmt::print("  {:.1f} s, {:.0f} rows/s\n", seconds,
               static_cast<double>(manifest.rows - result.resumed_rows) / seconds);
}

}  // namespace

int main(int argc, char** argv) {
  std::string model_path, inputs, mask, out, dtype = "bfloat16", format = "auto";
  std::vector<std::string> text, patterns;
  uint64_t tokens = 0, shard_megabytes = 64;
  models::TextOptions text_options;
  models::TextInputOptions input_options;
  models::HarvestOptions options;
  std::optional<double> sink_threshold;
  bool traced = false;

  apps::Driver driver(
      "vyx-harvest",
      "--model model.pt (--text FILE… | --inputs FILE) --sites PATTERN… --tokens N --out store/",
      "Runs a language model over text, or any TorchScript module over tensors, and keeps the "
      "activations at some sites as an activation store: sharded safetensors and a manifest. "
      "Interrupted, it goes on when it is run again with the same options.",
      "  vyx-harvest --model smollm2.pt --text a.txt b.jsonl.gz --sites model.layers.14 \\\n"
      "              --tokens 1000000 --out store\n"
      "  vyx-harvest --model smollm2.pt --text fortunes --separator % \\\n"
      "              --sites 'model.layers.{8..10}' --tokens 100000 --out store\n"
      "  vyx-harvest --model vit.pt --inputs images.safetensors --batch-tokens 16 \\\n"
      "              --sites 'encoder.layers.*' --tokens 100000 --out store");
  auto& option = driver.options();
  option("model,m", model_path, "FILE", "the archive of vyx-import", apps::kRequired);
  option("text,t", text, "FILE…", apps::kTextHelp);
  option("inputs", inputs, "FILE",
         "safetensors: the arguments of the module's forward by name, many stacked along the first "
         "dimension (apps/data/README.md)");
  option("mask", mask, "NAME",
         "of --inputs: the one [n, seq] that is 0 at padding, whose rows are left out; none: no "
         "such. Without it attention_mask is taken, if it has padding")
      .needs("inputs");
  option("sites,s", patterns, "PATTERN…", "where: model.layers.14, '*.mlp:output'",
         apps::kRequired);
  option("tokens,n", tokens, "N", "how many to keep, one row per token", apps::kRequired);
  option("out,o", out, "FOLDER", "the activation store to write", apps::kRequired);
  option("dtype", dtype, "TYPE", "of the rows: float32, bfloat16 or float16");
  option("context", input_options.context, "N", "tokens of text that see each other").needs("text");
  option("batch-tokens", input_options.batch_tokens, "N",
         "tokens per forward (of --inputs: how many of the stacked)");
  option("keep-special", options.keep_special, "keep the rows of special tokens").needs("text");
  option("special-in-text", input_options.special_in_text,
         "the text \"<|im_end|>\" is that token, not its characters")
      .needs("text");
  option("sink-threshold", sink_threshold, "X",
         fmt::format("leave out attention sinks: rows of more than X times the median norm at any "
                     "of the sites; 0: none (default: {} with --text, 0 with --inputs)",
                     models::kSinkThreshold));
  option("calibration-tokens", options.calibration_rows, "N",
         "the first ones, which the median norm is taken of");
  option("text-format", format, "NAME", "of the text: plain, jsonl, or auto: by name")
      .needs("text");
  option("text-key", text_options.json_key, "KEY", "of JSON Lines: the member that is the text")
      .needs("text")
      .unless("text-format", "plain");
  option("separator", text_options.separator, "LINE",
         "of plain text: a line that ends a document (% in fortunes)")
      .needs("text")
      .unless("text-format", "jsonl");
  option("shard-megabytes", shard_megabytes, "N", "of a shard; a killed harvest loses one at most");
  option.writes("out");
  driver.common("seed").needs("inputs");
  driver.result(
      {{"store", "the folder"},
       {"rows", "that are in it"},
       {"tokens", "that were read"},
       {"left_out", "rows by reason; sinks_at: those that are sinks at each of several sites"},
       {"input", "what was read, and what in it was not as it should be"},
       {"sites", "one per site", "site, width, norm_mean, norm_median, norm_max, norm_threshold"},
       {"shards", "how many"},
       {"bytes", "of the shards"},
       {"was_finished", "before this run"},
       {"resumed_rows", "that an interrupted run had left"},
       {"seconds", ""}});

  return driver.run(argc, argv, [&](const apps::CommonOptions& common) -> Json {
    sae::HarvestToStoreOptions store_options{
        .rows = tokens, .type = sae::type_from_dtype(dtype), .shard_bytes = shard_megabytes << 20};
    if (tokens == 0) throw UsageError("--tokens 0: expected at least 1");
    if (shard_megabytes == 0 || shard_megabytes > 1u << 20)
      throw UsageError(fmt::format("--shard-megabytes {}: expected 1 to 1048576", shard_megabytes));
    if (text.empty() == inputs.empty()) throw UsageError("expected either --text or --inputs");
    text_options.format = format_from_name(format);
    options.sink_threshold = sink_threshold.value_or(inputs.empty() ? models::kSinkThreshold : 0);
    std::optional<models::LanguageModel> model;  // outlives its input
    std::unique_ptr<models::HarvestInput> input;
    if (inputs.empty()) {
      models::TextSource source({text.begin(), text.end()}, text_options);
      model = models::LanguageModel::load(model_path, common.torch_device());
      input = models::text_input(*model, std::move(source), input_options);
    } else {
      const ScriptArchive archive = load_script(model_path, {}, common.torch_device());
      traced = archive.traced;
      TensorMap tensors = read_safetensors(inputs).tensors;
      const models::TensorInputOptions tensor_options{.batch = input_options.batch_tokens,
                                                      .mask = mask_of(common, tensors, mask),
                                                      .seed = common.seed,
                                                      .source = inputs};
      Json provenance = {
          {"model", valid_utf8(std::filesystem::path(model_path).filename().string())},
          {"model_sha256", sha256_file(model_path)},
          {"inputs_sha256", sha256_file(inputs)},
          {"device", common.device}};
      input = models::tensor_input(HookedModule(archive.module), std::move(tensors), tensor_options,
                                   std::move(provenance));
    }
    options.sites = apps::sites_of(input->module(), patterns);
    models::Harvest harvest(std::move(input), options);

    const Stopwatch stopwatch;
    std::optional<Progress> progress(std::in_place, "Harvesting", tokens, "tokens",
                                     common.progress());
    store_options.on_rows = [&](uint64_t rows) { progress->advance(rows); };
    const auto result = sae::harvest_to_store(harvest, out, store_options);
    progress.reset();
    const double seconds = stopwatch.seconds();
    const sae::StoreManifest& manifest = result.manifest;
    warn_about_input(common, manifest.input);
    if (!inputs.empty()) warn_about_readings(common, harvest, traced);
    warn_about_extent(common, manifest, tokens);
    if (!common.json) print_summary(out, result, seconds);
    Json sites = Json::array();
    for (const auto& site : manifest.sites)
      sites.push_back({{"site", site.site},
                       {"width", site.width},
                       {"norm_mean", site.norm_mean},
                       {"norm_median", site.norm_median},
                       {"norm_max", site.norm_max},
                       {"norm_threshold", site.norm_threshold}});
    return {{"store", out},
            {"rows", manifest.rows},
            {"tokens", manifest.tokens},
            {"left_out", manifest.left_out},
            {"input", manifest.input},
            {"sites", sites},
            {"shards", manifest.shards.size()},
            {"bytes", bytes_of(manifest)},
            {"was_finished", result.was_finished},
            {"resumed_rows", result.resumed_rows},
            {"seconds", seconds}};
  });
}
