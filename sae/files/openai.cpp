#include "sae/files/openai.h"

#include <ATen/Functions.h>

#include <tuple>

#include "core/base/error.h"
#include "core/base/text.h"
#include "sae/files/weight_reader.h"

namespace vyx::sae {
namespace {

// Counters of training, which its loader wants to find.
constexpr const char* kLastNonzero = "stats_last_nonzero";
constexpr const char* kFrequency = "latents_activation_frequency";
constexpr const char* kMeanSquare = "latents_mean_square";

}  // namespace

Autoencoder read_openai(const std::filesystem::path& file) {
  const std::string source = file.string();
  TorchContent content = read_torch(file);
  const Json& values = content.values;
  const std::string activation =
      values.contains("activation") ? json_string(values, "activation", source) : "ReLU";
  if (activation != "ReLU" && activation != "TopK")
    fail("{}: \"activation\": found {}, expected ReLU or TopK", source, quote(activation));

  Autoencoder sae;
  AutoencoderConfig& config = sae.config;
  WeightReader reader(std::move(content.tensors), source);
  std::tie(config.latents, config.d_in) = reader.matrix_sizes("encoder.weight");
  config.d_out = config.d_in;
  config.architecture = activation == "TopK" ? Architecture::topk : Architecture::relu;
  if (config.architecture == Architecture::topk) {
    config.normalization =
        Normalization::layer_norm;  // so do its files of TopK autoencoders mean it
    const Json state = values.value("activation_state_dict", Json::object());
    config.k = json_integer(state, "k", source + ": \"activation_state_dict\"", 1, config.latents);
    if (state.contains("postact_fn") && state["postact_fn"] != "ReLU")
      fail("{}: \"postact_fn\": found {}, expected ReLU", source,
           quote(state["postact_fn"].dump()));
  }
  sae.weights.encoder = reader.take("encoder.weight", {config.latents, config.d_in});
  sae.weights.encoder_bias = reader.take("latent_bias", {config.latents});
  const bool tied = reader.has("decoder.linear.weight");
  sae.weights.decoder =
      tied ? reader.take("decoder.linear.weight", {config.latents, config.d_out})
           : reader.take_transposed("decoder.weight", config.d_out, config.latents);
  sae.weights.decoder_bias = reader.take("pre_bias", {config.d_out});
  for (const char* name : {kLastNonzero, kFrequency, kMeanSquare}) reader.ignore(name);
  reader.require_all_taken();
  validate(sae, source);
  return sae;
}

void write_openai(const Autoencoder& given, const std::filesystem::path& file) {
  const std::string source = file.string();
  validate(given, source);
  const bool topk = given.config.architecture == Architecture::topk;
  if (given.config.d_in != given.config.d_out || given.weights.skip.defined() ||
      !given.config.target_sites.empty())
    fail(
        "{}: found a transcoder, expected an autoencoder, which is what OpenAI's files hold; save "
        "it as saelens",
        source);
  const Autoencoder sae = with_decoder_bias_subtracted(fold_scale(given), true, source);
  const AutoencoderConfig& config = sae.config;
  const Normalization expected = topk ? Normalization::layer_norm : Normalization::none;
  if ((!topk && config.architecture != Architecture::relu) || config.normalization != expected)
    fail(
        "{}: found a {} autoencoder{}, expected topk with layer_norm or relu without, which is "
        "what OpenAI's files hold; save it as saelens",
        source, name_of(config.architecture),
        config.normalization == Normalization::none ? "" : " with its inputs normalised");
  TorchContent content;
  content.tensors = {{"encoder.weight", sae.weights.encoder},
                     {"latent_bias", sae.weights.encoder_bias},
                     {"decoder.weight", sae.weights.decoder.t()},
                     {"pre_bias", sae.weights.decoder_bias},
                     {kLastNonzero, at::zeros({config.latents}, at::kLong)},
                     {kFrequency, at::ones({config.latents})},
                     {kMeanSquare, at::zeros({config.latents})}};
  content.values = {{"activation", topk ? "TopK" : "ReLU"},
                    {"activation_state_dict", Json::object()}};
  if (topk) content.values["activation_state_dict"] = {{"k", config.k}, {"postact_fn", "ReLU"}};
  write_torch(file, content);
}

}  // namespace vyx::sae
