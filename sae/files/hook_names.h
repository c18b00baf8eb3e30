// Names of the same places: TransformerLens's hooks, which SAELens's files speak of, and vyx's
// sites.
#pragma once
#include <string>

namespace vyx::sae {

/// "blocks.14.hook_resid_post" → "model.layers.14:output"; "" for a hook that has no site of its
/// own, such as blocks.14.ln2.hook_normalized, which is x / rms(x) without the gain that mlp:input
/// has.
std::string site_of_hook(const std::string& hook);
/// "model.layers.14:output" → "blocks.14.hook_resid_post"; "" for a site that has no hook.
std::string hook_of_site(const std::string& site);

}  // namespace vyx::sae
