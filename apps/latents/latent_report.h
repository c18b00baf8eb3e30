// A latent study as text for a terminal of 120 columns, and as JSON.
#pragma once
#include <string>

#include "apps/latents/latent_study.h"
#include "core/base/json_guard.h"

namespace vyx::apps {

/// The table, what stands around the strongest tokens, and which latents read and write best.
std::string to_text(const LatentStudy& study);
/// Everything: also all scores by latent, as lists with null where nothing was measured.
Json to_json(const LatentStudy& study);

}  // namespace vyx::apps
