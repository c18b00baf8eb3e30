// Where an autoencoder belongs in a model.
#pragma once
#include <string_view>

#include "models/language_model/language_model.h"
#include "sae/autoencoder/autoencoder.h"

namespace vyx::sae {

/// The site of an autoencoder that reads and writes one activation. Throws Error naming `source`
/// for a transcoder, a crosscoder, one that names no site, a site that the model lacks, the width
/// of another model's blocks, and, unless `allow_other_model`, one that says (metadata:
/// activations.model_sha256) that it was trained on another model.
Site site_in(models::LanguageModel& model, const Autoencoder& sae, std::string_view source,
             bool allow_other_model = false);

}  // namespace vyx::sae
