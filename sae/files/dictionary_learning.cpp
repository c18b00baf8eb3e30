#include "sae/files/dictionary_learning.h"

#include <ATen/Functions.h>

#include <tuple>

#include <algorithm>
#include <array>
#include <numeric>

#include "core/base/error.h"
#include "core/base/text.h"
#include "core/io/files.h"
#include "sae/files/weight_reader.h"

namespace vyx::sae {
namespace {

constexpr const char* kDictionaryConfig = "config.json";
constexpr const char* kDictionaryWeights = "ae.pt";

// A class of dictionary_learning: what it computes, and how it names its tensors. Linear layers
// keep [out, in], own matrices [in, out].
struct DictClass {
  std::string_view name;
  Architecture architecture;
  bool linear = true;     // encoder.weight, encoder.bias, decoder.weight; else W_enc, b_enc, W_dec
  std::string_view bias;  // of the decoder
  bool subtract_bias = true;
};
constexpr std::string_view kMatryoshkaClass = "MatryoshkaBatchTopKSAE";
constexpr std::array<DictClass, 7> kClasses{
    {{"AutoEncoder", Architecture::relu, true, "bias"},
     {"AutoEncoderNew", Architecture::relu, true, "decoder.bias", false},
     {"GatedAutoEncoder", Architecture::gated, true, "decoder_bias"},
     {"JumpReluAutoEncoder", Architecture::jump_relu, false, "b_dec", false},
     {"AutoEncoderTopK", Architecture::topk, true, "b_dec"},
     {"BatchTopKSAE", Architecture::batch_topk, true, "b_dec"},
     {kMatryoshkaClass, Architecture::batch_topk, false, "b_dec"}}};

const DictClass& class_named(std::string_view name, std::string_view source) {
  const auto* found = std::find_if(kClasses.begin(), kClasses.end(),
                                   [&](const DictClass& each) { return each.name == name; });
  if (found == kClasses.end())
    fail("{}: \"dict_class\": found {}, expected one of dictionary_learning's autoencoders", source,
         quote(name));
  return *found;
}

const DictClass& class_of_tensors(const WeightReader& reader) {
  if (reader.has("group_sizes")) return class_named(kMatryoshkaClass, reader.source());
  if (reader.has("W_enc")) return class_named("JumpReluAutoEncoder", reader.source());
  if (reader.has("gate_bias")) return class_named("GatedAutoEncoder", reader.source());
  if (reader.has("bias")) return class_named("AutoEncoder", reader.source());
  if (reader.has("decoder.bias")) return class_named("AutoEncoderNew", reader.source());
  fail(
      "{}: found no {} beside it, expected one, since it cannot be told from the tensors what this "
      "autoencoder is",
      reader.source(), kDictionaryConfig);
}

std::vector<int64_t> rising(const at::Tensor& group_sizes) {
  std::vector<int64_t> prefixes;
  int64_t total = 0;
  for (int64_t i = 0; i < group_sizes.numel(); ++i)
    prefixes.push_back(total += group_sizes[i].item<int64_t>());
  return prefixes;
}

const DictClass& class_to_write(const AutoencoderConfig& config, std::string_view source) {
  const bool matryoshka = !config.prefixes.empty();
  const auto* found = std::find_if(kClasses.begin(), kClasses.end(), [&](const DictClass& each) {
    return each.architecture == config.architecture &&
           (each.name == kMatryoshkaClass) == matryoshka;
  });
  if (found == kClasses.end())
    fail("{}: found architecture {}, which dictionary_learning lacks; save it as saelens", source,
         name_of(config.architecture));
  return *found;
}

}  // namespace

Autoencoder read_dictionary_learning(const std::filesystem::path& path) {
  const bool is_folder = std::filesystem::is_directory(path);
  const std::filesystem::path weights = is_folder ? path / kDictionaryWeights : path;
  const std::filesystem::path config_path = weights.parent_path() / kDictionaryConfig;
  Json cfg = Json::object();
  if (weights.filename() == kDictionaryWeights && std::filesystem::exists(config_path))
    cfg = parse_json(read_text_file(config_path), config_path.string());
  const Json trainer = cfg.is_object() ? cfg.value("trainer", Json::object()) : Json::object();

  TorchContent content = read_torch(weights);
  const at::Tensor group_sizes = content.tensors["group_sizes"];
  if (!group_sizes.defined()) content.tensors.erase("group_sizes");
  WeightReader reader(std::move(content.tensors), weights.string());
  const DictClass& kind =
      trainer.contains("dict_class")
          ? class_named(json_string(trainer, "dict_class", config_path.string()),
                        config_path.string())
          : class_of_tensors(reader);

  Autoencoder sae;
  AutoencoderConfig& config = sae.config;
  Parameters& w = sae.weights;
  const ArchitectureTraits& traits = traits_of(kind.architecture);
  config.architecture = kind.architecture;
  config.subtract_decoder_bias = kind.subtract_bias;
  if (kind.linear) {
    std::tie(config.latents, config.d_in) = reader.matrix_sizes("encoder.weight");
    w.encoder = reader.take("encoder.weight", {config.latents, config.d_in});
    w.decoder = reader.take_transposed("decoder.weight", config.d_in, config.latents);
  } else {
    std::tie(config.d_in, config.latents) = reader.matrix_sizes("W_enc");
    w.encoder = reader.take_transposed("W_enc", config.d_in, config.latents);
    w.decoder = reader.take("W_dec", {config.latents, config.d_in});
  }
  config.d_out = config.d_in;
  w.decoder_bias = reader.take(std::string(kind.bias), {config.d_out});
  if (traits.has_gate) {
    w.encoder_bias = reader.take("gate_bias", {config.latents});
    w.magnitude_bias = reader.take("mag_bias", {config.latents});
    w.magnitude_scale = reader.take("r_mag", {config.latents});
  } else {
    w.encoder_bias = reader.take(kind.linear ? "encoder.bias" : "b_enc", {config.latents});
  }
  if (traits.has_thresholds)
    w.threshold = reader.take("threshold", {config.latents}).clamp_min(0);  // f = relu(z)·[z > θ]
  if (traits.has_k) {
    config.k = reader.has("k")
                   ? static_cast<int64_t>(reader.take_number("k"))
                   : json_integer(trainer, "k", config_path.string(), 1, config.latents);
    if (traits.has_batch_threshold) {
      sae.topk_threshold = reader.take_number("threshold");
      if (sae.topk_threshold < 0)
        fail(
            "{}: tensor \"threshold\": found {}, which stands for none yet, expected the one that "
            "training sets; train it further",
            weights.string(), sae.topk_threshold);
    } else {
      reader.ignore("threshold");  // AutoEncoderTopK keeps one too, but does not use it
    }
  }
  if (kind.name == kMatryoshkaClass) {
    if (!group_sizes.defined())
      fail("{}: tensor \"group_sizes\": found nothing, expected the sizes of the groups of latents",
           weights.string());
    config.prefixes = rising(group_sizes);
    reader.ignore("group_sizes");
  }
  reader.require_all_taken();
  if (trainer.contains("lm_name")) config.metadata["model_name"] = trainer["lm_name"];
  if (!cfg.empty()) config.metadata["dictionary_learning"] = std::move(cfg);
  validate(sae, weights.string());
  return sae;
}

void write_dictionary_learning(const Autoencoder& given, const std::filesystem::path& folder) {
  const std::string source = folder.string();
  validate(given, source);
  if (given.config.d_in != given.config.d_out || given.weights.skip.defined() ||
      !given.config.target_sites.empty())
    fail(
        "{}: found a transcoder, expected an autoencoder, which is what dictionary_learning has; "
        "save it as saelens",
        source);
  const DictClass& kind = class_to_write(given.config, source);
  const ArchitectureTraits& traits = traits_of(kind.architecture);
  const Autoencoder sae =
      with_decoder_bias_subtracted(fold_scale(given), kind.subtract_bias, source);
  const AutoencoderConfig& config = sae.config;
  const Parameters& w = sae.weights;
  if (config.normalization != Normalization::none)
    fail(
        "{}: found inputs normalised per token, expected none of that, which dictionary_learning "
        "lacks; save it as saelens",
        source);

  TorchContent content;
  TensorMap& tensors = content.tensors;
  tensors[kind.linear ? "encoder.weight" : "W_enc"] = kind.linear ? w.encoder : w.encoder.t();
  tensors[kind.linear ? "decoder.weight" : "W_dec"] = kind.linear ? w.decoder.t() : w.decoder;
  tensors[std::string(kind.bias)] = w.decoder_bias;
  if (traits.has_gate) {
    tensors["gate_bias"] = w.encoder_bias;
    tensors["mag_bias"] = w.magnitude_bias;
    tensors["r_mag"] = w.magnitude_scale;
  } else {
    tensors[kind.linear ? "encoder.bias" : "b_enc"] = w.encoder_bias;
  }
  if (traits.has_thresholds) tensors["threshold"] = w.threshold;
  if (traits.has_k) {
    tensors["k"] = at::scalar_tensor(config.k, at::kInt);
    tensors["threshold"] =
        at::scalar_tensor(traits.has_batch_threshold ? sae.topk_threshold : -1, at::kFloat);
  }
  Json trainer = {{"dict_class", kind.name},
                  {"activation_dim", config.d_in},
                  {"dict_size", config.latents},
                  {"lm_name", config.metadata.value("model_name", Json(""))},
                  {"layer", nullptr},
                  {"submodule_name", nullptr}};
  if (config.sites.size() == 1) trainer["submodule_name"] = config.sites[0];
  if (traits.has_k) trainer["k"] = config.k;
  if (!config.prefixes.empty()) {
    std::vector<int64_t> sizes(config.prefixes.size());
    std::adjacent_difference(config.prefixes.begin(), config.prefixes.end(), sizes.begin());
    tensors["group_sizes"] = at::empty({static_cast<int64_t>(sizes.size())}, at::kLong);
    std::copy(sizes.begin(), sizes.end(), tensors["group_sizes"].mutable_data_ptr<int64_t>());
    trainer["group_sizes"] = sizes;
  }
  make_folder(folder);
  write_torch(folder / kDictionaryWeights, content);
  write_file(folder / kDictionaryConfig,
             Json{{"trainer", trainer},
                  {"buffer", {{"ctx_len", config.metadata.value("context_size", Json())}}}}
                     .dump(1) +
                 "\n");
}

}  // namespace vyx::sae
