#include <fmt/format.h>

#include "apps/inspect/inspect.h"
#include "core/base/json_number.h"
#include "sae/autoencoder/architecture.h"
#include "sae/files/autoencoder_file.h"
#include "sae/store/activation_store.h"
#include "steering/files/control_vector_file.h"

namespace vyx::apps {

Inspection inspect_store(const std::string& path) {
  const sae::ActivationStore store(path, /*verify=*/false);
  const sae::StoreManifest& manifest = store.manifest();
  std::string text = fmt::format(
      "{}: an activation store, {} rows in {}, {} shards, of {} tokens\n", path, manifest.rows,
      sae::dtype_name(manifest.type), manifest.shards.size(), manifest.tokens);
  for (const auto& site : manifest.sites)
    text += fmt::format(
        "  {:<32} width {}, norm: mean {:.4g}, median {:.4g}, rms {:.4g}, largest {:.4g}\n",
        site.site, site.width, site.norm_mean, site.norm_median, site.norm_rms, site.norm_max);
  text += fmt::format("  left out: {}\n", manifest.left_out.dump());
  for (const auto& [key, value] : manifest.recipe.items())
    text += fmt::format("  {:<20} {}\n", key, value.dump());

  Json json = parse_json(to_json(manifest), path);
  json["kind"] = "activation store";
  json["store_version"] = json["version"];  // "version" is that of the result
  return {std::move(json), std::move(text)};
}

Inspection inspect_control_vector(const std::string& path) {
  std::string warning;
  const auto vector = steering::read_control_vector(path, "model.layers", &warning);
  const auto& p = vector.provenance;
  const auto known = [](const std::string& text) { return text.empty() ? "?" : text; };
  std::string text = fmt::format("{}: a control vector, {} sites of width {}\n", path,
                                 vector.directions.size(), vector.width());
  text += fmt::format("  model: {} ({})\n  method: {}, {} pairs of {}\n", known(p.model_name),
                      p.model_hint, known(p.method), p.pairs, known(p.contrast_source));
  Json sites = Json::array();
  for (const auto& [site, direction] : vector.directions) {
    const double norm = direction.vector.norm().item<double>();
    sites.push_back(
        {{"site", site.name()},
         {"norm", norm},
         {"held_out_accuracy", number_or_null(direction.statistics.held_out_accuracy)}});
    text += fmt::format("  {:<32} norm {:.4g}\n", site.name(), norm);
  }
  if (!warning.empty()) text += fmt::format("  note: {}\n", warning);
  return {{{"kind", "control vector"},
           {"model_name", p.model_name},
           {"model_hint", p.model_hint},
           {"method", p.method},
           {"pairs", p.pairs},
           {"width", vector.width()},
           {"warning", warning},
           {"sites", sites}},
          std::move(text)};
}

Inspection inspect_autoencoder(const std::string& path) {
  const std::string_view format = sae::name_of(sae::recognise_format(path));
  const sae::Autoencoder autoencoder = sae::load_autoencoder(path);
  const sae::AutoencoderConfig& config = autoencoder.config;
  const std::string_view architecture = sae::name_of(config.architecture);
  const bool has_k = sae::traits_of(config.architecture).has_k;
  Json json = {{"kind", "autoencoder"},
               {"format", format},
               {"architecture", architecture},
               {"d_in", config.d_in},
               {"d_out", config.d_out},
               {"latents", config.latents},
               {"k", has_k ? Json(config.k) : Json(nullptr)},
               {"prefixes", config.prefixes},
               {"normalization", sae::name_of(config.normalization)},
               {"subtract_decoder_bias", config.subtract_decoder_bias},
               {"skip", autoencoder.weights.skip.defined()},
               {"sites", config.sites},
               {"target_sites", config.target_sites},
               {"decoder_norm", autoencoder.weights.decoder.norm(2, {1}).mean().item<double>()},
               {"metadata", config.metadata}};
  std::string text = fmt::format("{}: an autoencoder ({}), {} with {} latents, {} -> {}\n", path,
                                 format, architecture, config.latents, config.d_in, config.d_out);
  for (const char* key : {"k", "prefixes", "normalization", "subtract_decoder_bias", "skip",
                          "sites", "target_sites", "decoder_norm"})
    if (!json[key].empty()) text += fmt::format("  {:<24} {}\n", key, json[key].dump());
  for (const auto& [key, value] : config.metadata.items())
    text += fmt::format("  metadata.{:<15} {}\n", key, first_words(value.dump()));
  return {std::move(json), std::move(text)};
}

}  // namespace vyx::apps
