#include "sae/files/gemma_scope.h"

#include <ATen/Functions.h>

#include <tuple>

#include "core/base/error.h"
#include "core/base/text.h"
#include "core/io/files.h"
#include "sae/files/weight_reader.h"

namespace vyx::sae {
namespace {

constexpr const char* kNpz = "params.npz";
constexpr const char* kSafetensors = "params.safetensors";
constexpr const char* kGemmaConfig = "config.json";
constexpr const char* kGemmaSkip = "affine_skip_connection";  // [d_in, d_out]

// "model.layers.9.output" ↔ "model.layers.9:output"
std::string site_of_hook_point(std::string point) {
  const size_t dot = point.rfind('.');
  if (dot == std::string::npos || (point.substr(dot) != ".output" && point.substr(dot) != ".input"))
    return "";
  point[dot] = ':';
  return point;
}
std::string hook_point_of_site(std::string site) {
  if (const size_t colon = site.rfind(':'); colon != std::string::npos) site[colon] = '.';
  return site;
}

// Returns whether it speaks of an affine skip connection.
bool read_config(const std::filesystem::path& path, AutoencoderConfig& config) {
  Json cfg = parse_json(read_text_file(path), path.string());
  if (cfg.contains("architecture") &&
      json_string(cfg, "architecture", path.string()) != "jump_relu")
    fail("{}: \"architecture\": found {}, expected jump_relu", path.string(),
         quote(json_string(cfg, "architecture", path.string())));
  const auto add = [&](const char* key, std::vector<std::string>& sites) {
    if (!cfg.contains(key) || !cfg[key].is_string()) return;
    const std::string site = site_of_hook_point(cfg[key].get<std::string>());
    if (!site.empty()) sites.push_back(site);
  };
  add("hf_hook_point_in", config.sites);
  add("hf_hook_point_out", config.target_sites);
  // An autoencoder's points are one and the same.
  if (config.target_sites == config.sites) config.target_sites.clear();
  const bool affine =
      cfg.contains("affine_connection") && json_bool(cfg, "affine_connection", path.string());
  if (cfg.contains("model_name")) config.metadata["model_name"] = cfg["model_name"];
  config.metadata["gemma_scope"] = std::move(cfg);
  return affine;
}

}  // namespace

Autoencoder read_gemma_scope(const std::filesystem::path& path) {
  std::filesystem::path file = path;
  if (std::filesystem::is_directory(path))
    file = path / (std::filesystem::exists(path / kNpz) ? kNpz : kSafetensors);
  const bool npz = file.extension() == ".npz";
  WeightReader reader(npz ? read_npz(file) : read_safetensors(file).tensors, file.string());
  const char* encoder = npz ? "W_enc" : "w_enc";
  const char* decoder = npz ? "W_dec" : "w_dec";

  Autoencoder sae;
  AutoencoderConfig& config = sae.config;
  config.architecture = Architecture::jump_relu;
  config.subtract_decoder_bias = false;
  std::tie(config.d_in, config.latents) = reader.matrix_sizes(encoder);
  config.d_out = reader.matrix_sizes(decoder).second;
  sae.weights.encoder = reader.take_transposed(encoder, config.d_in, config.latents);
  sae.weights.encoder_bias = reader.take("b_enc", {config.latents});
  sae.weights.decoder = reader.take(decoder, {config.latents, config.d_out});
  sae.weights.decoder_bias = reader.take("b_dec", {config.d_out});
  sae.weights.threshold =
      reader.take("threshold", {config.latents}).clamp_min(0);  // f = relu(z)·[z > θ]
  const std::filesystem::path config_path = file.parent_path() / kGemmaConfig;
  const bool affine =
      !npz && std::filesystem::exists(config_path) && read_config(config_path, config);
  if (affine || reader.has(kGemmaSkip))
    sae.weights.skip = reader.take_transposed(kGemmaSkip, config.d_in, config.d_out);
  reader.require_all_taken();
  validate(sae, file.string());
  return sae;
}

void write_gemma_scope(const Autoencoder& given, const std::filesystem::path& folder,
                       GemmaScope version) {
  const std::string source = folder.string();
  validate(given, source);
  const Autoencoder sae = with_decoder_bias_subtracted(fold_scale(given), false, source);
  const AutoencoderConfig& config = sae.config;
  const bool npz = version == GemmaScope::npz;
  if (config.normalization != Normalization::none)
    fail(
        "{}: found inputs normalised per token, expected none of that, which Gemma Scope lacks; "
        "save "
        "it as saelens",
        source);
  if (npz && sae.weights.skip.defined())
    fail("{}: found a skip connection, expected none in {}; save it as gemma-scope-2", source,
         kNpz);
  TensorMap tensors = {{npz ? "W_enc" : "w_enc", sae.weights.encoder.t()},
                       {"b_enc", sae.weights.encoder_bias},
                       {npz ? "W_dec" : "w_dec", sae.weights.decoder},
                       {"b_dec", sae.weights.decoder_bias},
                       {"threshold", thresholds_to_write(sae, source)}};
  if (sae.weights.skip.defined()) tensors[kGemmaSkip] = sae.weights.skip.t();
  make_folder(folder);
  if (npz) return write_npz(folder / kNpz, tensors);
  Json cfg = {{"architecture", "jump_relu"},
              {"affine_connection", sae.weights.skip.defined()},
              {"model_name", config.metadata.value("model_name", Json(""))}};
  if (config.sites.size() == 1) cfg["hf_hook_point_in"] = hook_point_of_site(config.sites[0]);
  const auto& targets = config.target_sites.empty() ? config.sites : config.target_sites;
  if (targets.size() == 1) cfg["hf_hook_point_out"] = hook_point_of_site(targets[0]);
  write_safetensors(folder / kSafetensors, tensors);
  write_file(folder / kGemmaConfig, cfg.dump(1) + "\n");
}

}  // namespace vyx::sae
