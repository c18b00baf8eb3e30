// Where an autoencoder belongs: in which model, and where in it.
#pragma once
#include <string>
#include <string_view>

#include "models/language_model/language_model.h"
#include "sae/autoencoder/autoencoder.h"

namespace vyx::sae {

/// A model, as an autoencoder's training and a store's harvest note it; "": not noted.
struct ModelIdentity {
  std::string name, sha256;  // of the file that it was imported from
};
ModelIdentity identity_of(const models::LanguageModel& model);
/// Of a harvest's recipe, which is an autoencoder's metadata "activations".
ModelIdentity identity_of(const Json& recipe);

/// Whatever brings an autoencoder together with a model, or with activations, asks here. Throws
/// Error naming `source` for one that says that it was trained on another model, unless
/// `allow_other_model`.
void require_own_model(const Autoencoder& sae, std::string_view source, const ModelIdentity& model,
                       bool allow_other_model = false);

/// The site of an autoencoder that reads and writes one activation. Throws Error naming `source`
/// for a transcoder, a crosscoder, one that names no site, a site that the model lacks, the width
/// of another model's blocks, and what require_own_model refuses.
Site site_in(models::LanguageModel& model, const Autoencoder& sae, std::string_view source,
             bool allow_other_model = false);

}  // namespace vyx::sae
