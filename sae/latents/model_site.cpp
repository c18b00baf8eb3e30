#include "sae/latents/model_site.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <string>

#include "core/base/error.h"
#include "core/base/nearest.h"

namespace vyx::sae {
ModelIdentity identity_of(const models::LanguageModel& model) {
  return {model.config().provenance.name, model.config().provenance.sha256};
}

ModelIdentity identity_of(const Json& recipe) {
  const auto text = [&](const char* key) -> std::string {
    const Json value = recipe.is_object() ? recipe.value(key, Json()) : Json();
    return value.is_string() ? value.get<std::string>() : "";
  };
  return {text("model"), text("model_sha256")};
}

void require_own_model(const Autoencoder& sae, std::string_view source, const ModelIdentity& model,
                       bool allow_other_model) {
  const Json& metadata = sae.config.metadata;
  const auto [name, sha256] =
      identity_of(metadata.is_object() ? metadata.value("activations", Json()) : Json());
  if (allow_other_model || sha256.empty() || model.sha256.empty() || sha256 == model.sha256) return;
  fail(
      "{}: was trained on model {} (sha256 {}…), this is {} ({}…); take its own model, or pass "
      "--allow-other-model",
      source, name, sha256.substr(0, 12), model.name, model.sha256.substr(0, 12));
}

Site site_in(models::LanguageModel& model, const Autoencoder& sae, std::string_view source,
             bool allow_other_model) {
  const AutoencoderConfig& config = sae.config;
  if (config.sites.empty())
    fail("{}: found no site in it, expected the one that it was trained on; give --site", source);
  if (config.sites.size() > 1 || !config.target_sites.empty())
    fail("{}: found {}, expected an autoencoder of one site whose target is its input", source,
         config.target_sites.empty() ? "a crosscoder" : "a transcoder");
  require_own_model(sae, source, identity_of(model), allow_other_model);

  const Site site = Site::parse(config.sites.front());
  const std::vector<std::string>& sites = model.module().sites();
  if (std::find(sites.begin(), sites.end(), site.name()) == sites.end())
    fail("{}: is for {}, which the model has not; the nearest are {}", source, site.name(),
         fmt::join(nearest(site.name(), sites), ", "));
  for (int64_t block = 0; block < model.config().spec.layers(); ++block) {
    if (site == model.block_output(block) && config.d_in != model.config().spec.d_model)
      fail("{}: has width {}, {} has {}; it was trained on another model", source, config.d_in,
           model.config().provenance.name, model.config().spec.d_model);
  }
  return site;
}

}  // namespace vyx::sae
