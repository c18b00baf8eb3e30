// The page at the end of a run: its curves and what it was made of.
#pragma once
#include <string>
#include <vector>

#include "core/base/json_guard.h"

namespace vyx::sae {

/// One self-contained HTML page of the log's lines (metrics_log.h), the run's options (recipe.h's
/// to_json) and its data's provenance.
std::string training_page(const std::vector<Json>& metrics, const Json& options,
                          const Json& provenance);

}  // namespace vyx::sae
