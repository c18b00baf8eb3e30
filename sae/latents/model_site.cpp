#include "sae/latents/model_site.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <string>

#include "core/base/error.h"
#include "core/base/nearest.h"

namespace vyx::sae {
namespace {

/// What the training's provenance says of the model; "" when it does not.
std::string provenance(const Json& metadata, const char* key) {
  const auto activations = metadata.find("activations");
  if (activations == metadata.end() || !activations->is_object()) return "";
  const auto found = activations->find(key);
  return found != activations->end() && found->is_string() ? found->get<std::string>() : "";
}

}  // namespace

Site site_in(models::LanguageModel& model, const Autoencoder& sae, std::string_view source,
             bool allow_other_model) {
  const AutoencoderConfig& config = sae.config;
  if (config.sites.empty())
    fail("{}: found no site in it, expected the one that it was trained on; give --site", source);
  if (config.sites.size() > 1 || !config.target_sites.empty())
    fail("{}: found {}, expected an autoencoder of one site whose target is its input", source,
         config.target_sites.empty() ? "a crosscoder" : "a transcoder");
  const std::string trained_on = provenance(config.metadata, "model_sha256"),
                    own = model.config().provenance.sha256;
  if (!allow_other_model && !trained_on.empty() && !own.empty() && trained_on != own)
    fail(
        "{}: was trained on model {} (sha256 {}…), this is {} ({}…); take its own model, or pass "
        "--allow-other-model",
        source, provenance(config.metadata, "model"), trained_on.substr(0, 12),
        model.config().provenance.name, own.substr(0, 12));

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
