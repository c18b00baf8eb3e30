#include "sae/files/saelens.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/base/text.h"
#include "core/io/files.h"
#include "sae/files/hook_names.h"
#include "sae/files/weight_reader.h"

namespace vyx::sae {
namespace {

constexpr const char* kSaelensConfig = "cfg.json";
constexpr const char* kSaelensWeights = "sae_weights.safetensors";
constexpr const char* kScaler = "activation_scaler.json";
constexpr const char* kSparsity = "sparsity.safetensors";
constexpr const char* kSaelensVersion = "6.54.12";  // whose files we write
constexpr std::string_view kTranscoder = "transcoder", kSkip = "skip_transcoder";

constexpr std::array<std::pair<Normalization, const char*>, 3> kSaelensNormalizations{
    {{Normalization::none, "none"},
     {Normalization::token_norm, "constant_norm_rescale"},
     {Normalization::layer_norm, "layer_norm"}}};
// A training checkpoint of batch_topk with prefixes.
constexpr std::string_view kMatryoshka = "matryoshka_batchtopk";

struct Kind {
  Architecture architecture;
  bool transcoder = false, skip = false;
};

// "jumprelu_skip_transcoder": an architecture, standard where none is named, and what is added to
// it.
Kind kind_of(const std::string& name, std::string_view source) {
  Kind kind{Architecture::relu, false, false};
  std::string_view base = name;
  if (base == kMatryoshka) return {Architecture::batch_topk};
  for (const std::string_view suffix : {kSkip, kTranscoder}) {
    if (!base.ends_with(suffix) ||
        (base.size() > suffix.size() && base[base.size() - suffix.size() - 1] != '_'))
      continue;
    kind.transcoder = true;
    kind.skip = suffix == kSkip;
    base.remove_suffix(std::min(base.size(), suffix.size() + 1));
    break;
  }
  if (kind.transcoder && base.empty()) return kind;
  std::vector<std::string_view> known;
  for (const ArchitectureTraits& each : architectures()) {
    known.push_back(each.saelens_name);
    // One threshold for all latents is written as thresholds, but for training checkpoints.
    if (base != each.saelens_name || (kind.transcoder && each.has_batch_threshold)) continue;
    kind.architecture = each.architecture;
    return kind;
  }
  fail("{}: \"architecture\": found {}, expected {}, {} or a transcoder", source, quote(name),
       fmt::join(known, ", "), kMatryoshka);
}

// "6.54.12" → 6; 0 for a text that is no version.
int major_version(const Json& config) {
  const auto text = [](const Json& object) -> std::string {
    const auto found = object.find("sae_lens_version");
    return found != object.end() && found->is_string() ? found->get<std::string>() : "";
  };
  std::string version = text(config);
  if (version.empty() && config.contains("metadata") && config["metadata"].is_object())
    version = text(config["metadata"]);
  int major = 0;
  std::from_chars(version.data(), version.data() + version.size(), major);
  return major;
}

/// The config in version 6's form: what came before was flat.
Json version_6(Json config, std::string_view source) {
  if (!config.is_object()) fail("{}: found {}, expected an object", source, config.type_name());
  if (major_version(config) >= 6) return config;
  const auto rename = [&](const char* from, const char* to) {
    if (config.contains(from) && !config.contains(to)) config[to] = config[from];
    config.erase(from);
  };
  rename("hook_point", "hook_name");
  rename("activation_fn_str", "activation_fn");
  Json current = Json::object();
  const auto move = [&](const char* key, Json otherwise) {
    current[key] = config.contains(key) ? config[key] : std::move(otherwise);
    config.erase(key);
  };
  move("architecture", "standard");
  move("apply_b_dec_to_input", true);
  move("normalize_activations", "none");
  for (const char* key :
       {"d_in", "d_sae", "d_out", "k", "rescale_acts_by_decoder_norm", "finetuning_scaling_factor"})
    if (config.contains(key)) move(key, nullptr);
  const Json activation = config.value("activation_fn", Json("relu"));
  if (activation == "topk") {
    const Json arguments = config.value("activation_fn_kwargs", Json::object());
    current["architecture"] = "topk";
    if (arguments.is_object() && arguments.contains("k")) current["k"] = arguments["k"];
  } else if (activation != "relu") {
    fail("{}: \"activation_fn\": found {}, expected relu or topk", source,
         quote(activation.dump()));
  }
  Json metadata = config.value("metadata", Json::object());
  config.erase("metadata");
  if (metadata.is_object()) config.update(metadata);
  current["metadata"] = std::move(config);
  return current;
}

bool flag(const Json& config, const char* key, bool otherwise, std::string_view source) {
  return config.contains(key) && !config[key].is_null() ? json_bool(config, key, source)
                                                        : otherwise;
}

// Sets how inputs are normalised; a scale that was not folded yet stands in a file of its own.
void read_normalization(const Json& config, const std::filesystem::path& folder,
                        AutoencoderConfig& out, std::string_view source) {
  Json value = config.value("normalize_activations", Json("none"));
  if (value.is_null()) value = "none";
  if (value.is_boolean()) value = value.get<bool>() ? "expected_average_only_in" : "none";
  for (const auto& [normalization, name] : kSaelensNormalizations)
    if (value == name) {
      out.normalization = normalization;
      return;
    }
  if (value != "expected_average_only_in")
    fail(
        "{}: \"normalize_activations\": found {}, expected none, expected_average_only_in, "
        "constant_norm_rescale or layer_norm{}",
        source, quote(value.dump()),
        value == "covariance_whitening"
            ? "; save it with save_inference_model, which folds the whitening"
            : "");
  const std::filesystem::path scaler = folder / kScaler;
  if (!std::filesystem::exists(scaler))
    fail(
        "{}: \"normalize_activations\": found expected_average_only_in, expected the scale in {} "
        "beside it, as {{\"scaling_factor\": 1.0}}; 1 when it has been folded into the weights",
        source, kScaler);
  out.normalization = Normalization::scale;
  out.scales = {json_number(parse_json(read_text_file(scaler), scaler.string()), "scaling_factor",
                            scaler.string())};
}

// Where the activations come from. vyx writes its own names beside SAELens's.
void read_sites(Json& metadata, bool transcoder, AutoencoderConfig& out) {
  const auto names = [&](const char* key, const char* hook_key) {
    std::vector<std::string> sites;
    if (metadata.contains(key) && metadata[key].is_array()) {
      for (const Json& site : metadata[key])
        if (site.is_string()) sites.push_back(site.get<std::string>());
      metadata.erase(key);
    } else if (metadata.contains(hook_key) && metadata[hook_key].is_string()) {
      const std::string site = site_of_hook(metadata[hook_key].get<std::string>());
      if (!site.empty()) sites.push_back(site);
    }
    return sites;
  };
  out.sites = names("sites", "hook_name");
  if (transcoder) out.target_sites = names("target_sites", "hook_name_out");
}

// A checkpoint's Matryoshka widths; SAELens adds the whole where it is left out.
std::vector<int64_t> read_widths(const Json& cfg, int64_t latents, std::string_view source) {
  std::vector<int64_t> widths;
  const Json list = cfg.value("matryoshka_widths", Json::array());
  if (!list.is_array())
    fail("{}: \"matryoshka_widths\": found {}, expected an array of numbers", source,
         list.type_name());
  for (size_t i = 0; i < list.size(); ++i) {
    const Json entry = {{"matryoshka_widths", list[i]}};
    widths.push_back(json_integer(entry, "matryoshka_widths", source, 1, latents));
  }
  if (!widths.empty() && widths.back() != latents) widths.push_back(latents);
  return widths;
}

AutoencoderConfig read_config(const Json& cfg, const Kind& kind,
                              const std::filesystem::path& folder, std::string_view source) {
  AutoencoderConfig config;
  config.architecture = kind.architecture;
  config.d_in = json_integer(cfg, "d_in", source, 1, INT32_MAX);
  config.latents = json_integer(cfg, "d_sae", source, 1, INT32_MAX);
  config.d_out = kind.transcoder ? json_integer(cfg, "d_out", source, 1, INT32_MAX) : config.d_in;
  config.subtract_decoder_bias = flag(cfg, "apply_b_dec_to_input", !kind.transcoder, source);
  if (kind.transcoder && config.subtract_decoder_bias)
    fail("{}: \"apply_b_dec_to_input\": found true, expected false for a transcoder", source);
  const ArchitectureTraits& traits = traits_of(kind.architecture);
  if (traits.has_k && !traits.has_batch_threshold)
    config.k = json_integer(cfg, "k", source, 1, config.latents);
  if (traits.has_k && traits.has_batch_threshold) {
    const double k = json_number(cfg, "k", source);
    if (k < 1 || k > static_cast<double>(config.latents) || k != std::floor(k))
      fail(
          "{}: \"k\": found {}, expected a whole number from 1 to {}; save another with "
          "save_inference_model",
          source, k, config.latents);
    config.k = static_cast<int64_t>(k);
    if (cfg["architecture"] == kMatryoshka)
      config.prefixes = read_widths(cfg, config.latents, source);
  }
  read_normalization(cfg, folder, config, source);
  if (kind.transcoder && config.normalization != Normalization::none)
    fail(
        "{}: \"normalize_activations\": found {}, expected none for a transcoder, whose output "
        "SAELens does not bring back",
        source, cfg["normalize_activations"].dump());
  config.metadata = cfg.value("metadata", Json::object());
  if (!config.metadata.is_object())
    fail("{}: \"metadata\": found {}, expected an object", source, config.metadata.type_name());
  read_sites(config.metadata, kind.transcoder, config);
  return config;
}

// BatchTopK autoencoders are written as JumpReLU with one threshold, and say so in the metadata.
void restore_batch_topk(Autoencoder& sae) {
  AutoencoderConfig& config = sae.config;
  const Json& metadata = config.metadata;
  const Json name = metadata.value("training_architecture", Json());
  const Json details = metadata.value("training_architecture_details", Json::object());
  if ((name != traits_of(Architecture::batch_topk).saelens_name && name != kMatryoshka) ||
      !details.is_object() || !details.contains("k") || !details["k"].is_number())
    return;
  const double k = details["k"].get<double>();
  const bool integral = k >= 1 && k <= static_cast<double>(config.latents) && k == std::floor(k);
  const float threshold = sae.weights.threshold[0].item<float>();
  if (!integral || !sae.weights.threshold.eq(threshold).all().item<bool>()) return;
  config.architecture = Architecture::batch_topk;
  config.k = static_cast<int64_t>(k);
  if (name == kMatryoshka && details.contains("matryoshka_widths")) {
    const Json& widths = details["matryoshka_widths"];
    if (widths.is_array() && std::all_of(widths.begin(), widths.end(), [](const Json& width) {
          return width.is_number_integer();
        }))
      config.prefixes = widths.get<std::vector<int64_t>>();
  }
  sae.topk_threshold = threshold;
  sae.weights.threshold = at::Tensor();
}

void scale_latents(Parameters& w,
                   const at::Tensor& factors) {  // f·factors, and back on the way out
  w.encoder = w.encoder * factors.unsqueeze(1);
  w.encoder_bias = w.encoder_bias * factors;
  w.decoder = w.decoder / factors.unsqueeze(1);
}

Parameters read_weights(WeightReader& reader, const AutoencoderConfig& config, bool skip) {
  Parameters w;
  for_each_parameter(
      [&](const ParameterKind& kind, at::Tensor& tensor) {
        if (!belongs_to(kind, config.architecture) || (kind.optional && !skip)) return;
        const std::string name = published_name(kind, config.architecture);
        const std::vector<int64_t> shape = shape_of(kind, config);
        if (kind.member == &Parameters::encoder) {
          tensor = reader.take_transposed(name, shape[1], shape[0]);
        } else if (kind.member == &Parameters::threshold) {
          // Logarithms: training checkpoints up to 6.47.
          const bool logarithm = reader.has("log_threshold");
          tensor = reader.take(logarithm ? "log_threshold" : name, shape);
          // SAELens lets nothing negative pass, whatever the threshold.
          tensor = logarithm ? tensor.exp() : tensor.clamp_min(0);
        } else {
          tensor = reader.take(name, shape);
        }
      },
      w);
  return w;
}

std::string architecture_name(const Autoencoder& sae, bool transcoder) {
  const ArchitectureTraits& own = traits_of(sae.config.architecture);
  const ArchitectureTraits& written =
      own.has_batch_threshold ? traits_of(Architecture::jump_relu) : own;
  if (!transcoder) return std::string(written.saelens_name);
  const std::string_view suffix = sae.weights.skip.defined() ? kSkip : kTranscoder;
  return written.architecture == Architecture::relu
             ? std::string(suffix)
             : fmt::format("{}_{}", written.saelens_name, suffix);
}

Json metadata_of(const AutoencoderConfig& config) {
  Json metadata = config.metadata.is_object() ? config.metadata : Json::object();
  metadata["sae_lens_version"] = kSaelensVersion;
  const auto put = [&](const char* key, const char* hook_key,
                       const std::vector<std::string>& sites) {
    if (sites.empty()) return;
    metadata[key] = sites;
    const std::string hook = hook_of_site(sites[0]);
    if (sites.size() == 1) metadata[hook_key] = hook.empty() ? sites[0] : hook;
  };
  put("sites", "hook_name", config.sites);
  put("target_sites", "hook_name_out", config.target_sites);
  const ArchitectureTraits& traits = traits_of(config.architecture);
  if (traits.has_batch_threshold) {
    metadata["training_architecture"] = config.prefixes.empty() ? traits.saelens_name : kMatryoshka;
    Json& details = metadata["training_architecture_details"];
    if (!details.is_object()) details = Json::object();
    details["k"] = config.k;
    if (!config.prefixes.empty()) details["matryoshka_widths"] = config.prefixes;
  }
  return metadata;
}

}  // namespace

Autoencoder read_saelens(const std::filesystem::path& folder) {
  const std::string source = (folder / kSaelensConfig).string();
  const Json cfg = version_6(parse_json(read_text_file(folder / kSaelensConfig), source), source);
  const Kind kind = kind_of(json_string(cfg, "architecture", source), source);
  const ArchitectureTraits& traits = traits_of(kind.architecture);
  Autoencoder sae;
  AutoencoderConfig& config = sae.config;
  config = read_config(cfg, kind, folder, source);

  const std::string weights_source = (folder / kSaelensWeights).string();
  WeightReader reader(read_safetensors(folder / kSaelensWeights).tensors, weights_source);
  sae.weights = read_weights(reader, config, kind.skip);
  for (const char* name : {"scaling_factor", "finetuning_scaling_factor"})
    if (reader.has(name)) {
      const at::Tensor factor = reader.take(name, {config.latents});
      if (!flag(cfg, "finetuning_scaling_factor", false, source) &&
          !factor.eq(1).all().item<bool>())
        fail(
            "{}: tensor \"{}\": found factors that are not 1, expected "
            "\"finetuning_scaling_factor\": true in {}",
            weights_source, name, kSaelensConfig);
      sae.weights.decoder = sae.weights.decoder * factor.unsqueeze(1);
    }
  if (traits.has_batch_threshold) sae.topk_threshold = reader.take_number("topk_threshold");
  reader.require_all_taken();
  if (traits.has_k &&
      flag(cfg, "rescale_acts_by_decoder_norm", traits.has_batch_threshold, source)) {
    if (config.normalization == Normalization::scale)
      sae.topk_threshold /= config.scales.front();  // as W_dec will be
    sae = fold_scale(sae);
    scale_latents(sae.weights, sae.weights.decoder.norm(2, {1}).clamp_min(1e-8));
  }
  if (traits.has_thresholds) restore_batch_topk(sae);
  validate(sae, weights_source);
  return sae;
}

void write_saelens(const Autoencoder& given, const std::filesystem::path& folder,
                   const at::Tensor& sparsity) {
  validate(given, folder.string());
  const bool transcoder = given.config.d_in != given.config.d_out ||
                          !given.config.target_sites.empty() || given.weights.skip.defined();
  Autoencoder sae = fold_scale(given);
  if (transcoder) sae = with_decoder_bias_subtracted(sae, false, folder.string());
  const AutoencoderConfig& config = sae.config;
  if (transcoder && config.normalization != Normalization::none)
    fail(
        "{}: found a transcoder whose inputs are normalised per token, expected none of that; "
        "SAELens does not bring its output back",
        folder.string());

  const char* normalization =
      std::find_if(kSaelensNormalizations.begin(), kSaelensNormalizations.end(),
                   [&](const auto& each) { return each.first == config.normalization; })
          ->second;
  Json cfg = {{"d_in", config.d_in},
              {"d_sae", config.latents},
              {"dtype", "float32"},
              {"device", "cpu"},
              {"apply_b_dec_to_input", config.subtract_decoder_bias},
              {"normalize_activations", normalization},
              {"reshape_activations", "none"},
              {"architecture", architecture_name(sae, transcoder)},
              {"metadata", metadata_of(config)}};
  if (transcoder) cfg["d_out"] = config.d_out;
  const ArchitectureTraits& traits = traits_of(config.architecture);
  if (traits.has_k && !traits.has_batch_threshold) {
    cfg["k"] = config.k;
    cfg["rescale_acts_by_decoder_norm"] = false;
  }

  TensorMap tensors;
  for_each_parameter(
      [&](const ParameterKind& kind, const at::Tensor& tensor) {
        if (!tensor.defined()) return;
        const bool transposed = kind.member == &Parameters::encoder;
        tensors[published_name(kind, config.architecture)] = transposed ? tensor.t() : tensor;
      },
      sae.weights);
  if (traits.has_batch_threshold) tensors["threshold"] = thresholds(sae);
  make_folder(folder);
  write_safetensors(folder / kSaelensWeights, tensors);
  if (sparsity.defined()) write_safetensors(folder / kSparsity, TensorMap{{"sparsity", sparsity}});
  write_file(folder / kSaelensConfig, cfg.dump(1) + "\n");
}

}  // namespace vyx::sae
