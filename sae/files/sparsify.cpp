#include "sae/files/sparsify.h"

#include "core/base/error.h"
#include "core/base/text.h"
#include "core/io/files.h"
#include "sae/files/weight_reader.h"

namespace vyx::sae {
namespace {

constexpr const char* kSparsifyConfig = "cfg.json";
constexpr const char* kSparsifyWeights = "sae.safetensors";

}  // namespace

Autoencoder read_sparsify(const std::filesystem::path& folder) {
  const std::string source = (folder / kSparsifyConfig).string();
  Json cfg = parse_json(read_text_file(folder / kSparsifyConfig), source);
  const auto flag = [&](const char* key) {
    return cfg.contains(key) && json_bool(cfg, key, source);
  };
  for (const char* key : {"signed", "embed_skip", "gram_lookup"})
    if (flag(key))
      fail("{}: \"{}\": found true, expected false; vyx has no such autoencoders", source, key);
  if (cfg.contains("activation") && json_string(cfg, "activation", source) != "topk")
    fail("{}: \"activation\": found {}, expected topk", source,
         quote(json_string(cfg, "activation", source)));

  Autoencoder sae;
  AutoencoderConfig& config = sae.config;
  config.architecture = Architecture::topk;
  config.d_in = config.d_out = json_integer(cfg, "d_in", source, 1, INT32_MAX);
  config.latents =
      cfg.contains("num_latents") ? json_integer(cfg, "num_latents", source, 0, INT32_MAX) : 0;
  if (config.latents == 0)
    config.latents =
        config.d_in * json_integer(cfg, "expansion_factor", source, 1, INT32_MAX / config.d_in);
  config.k = json_integer(cfg, "k", source, 1, config.latents);
  config.subtract_decoder_bias = !flag("transcode");
  const bool skip = flag("skip_connection");

  WeightReader reader(read_safetensors(folder / kSparsifyWeights).tensors,
                      (folder / kSparsifyWeights).string());
  sae.weights.encoder = reader.take("encoder.weight", {config.latents, config.d_in});
  sae.weights.encoder_bias = reader.take("encoder.bias", {config.latents});
  sae.weights.decoder = reader.take("W_dec", {config.latents, config.d_out});
  sae.weights.decoder_bias = reader.take("b_dec", {config.d_out});
  if (skip) sae.weights.skip = reader.take("W_skip", {config.d_out, config.d_in});
  reader.require_all_taken();
  config.metadata = {{"sparsify", std::move(cfg)}};
  validate(sae, reader.source());
  return sae;
}

void write_sparsify(const Autoencoder& given, const std::filesystem::path& folder) {
  const std::string source = folder.string();
  validate(given, source);
  const Autoencoder sae = fold_scale(given);
  const AutoencoderConfig& config = sae.config;
  if (config.architecture != Architecture::topk || config.normalization != Normalization::none ||
      config.d_in != config.d_out)
    fail(
        "{}: found a {} autoencoder from {} to {}{}, expected topk of one width without "
        "normalisation, which is what sparsify has; save it as saelens",
        source, name_of(config.architecture), config.d_in, config.d_out,
        config.normalization == Normalization::none ? "" : " with its inputs normalised");
  Json cfg = {{"activation", "topk"},
              {"expansion_factor", config.latents / config.d_in},
              {"normalize_decoder", false},
              {"num_latents", config.latents},
              {"k", config.k},
              {"multi_topk", false},
              {"skip_connection", sae.weights.skip.defined()},
              {"transcode", !config.subtract_decoder_bias},
              {"d_in", config.d_in}};
  TensorMap tensors = {{"encoder.weight", sae.weights.encoder},
                       {"encoder.bias", sae.weights.encoder_bias},
                       {"W_dec", sae.weights.decoder},
                       {"b_dec", sae.weights.decoder_bias}};
  if (sae.weights.skip.defined()) tensors["W_skip"] = sae.weights.skip;
  make_folder(folder);
  write_safetensors(folder / kSparsifyWeights, tensors);
  write_file(folder / kSparsifyConfig, cfg.dump(1) + "\n");
}

}  // namespace vyx::sae
