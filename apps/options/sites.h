// --sites: patterns of sites, as a module has them.
#pragma once
#include <string>
#include <vector>

#include "core/hooks/hooked_module.h"

namespace vyx::apps {

/// The sites that the patterns choose, in the order of the patterns; each once. Throws Error naming
/// the nearest sites for a pattern without any.
std::vector<Site> sites_of(const HookedModule& module, const std::vector<std::string>& patterns);

}  // namespace vyx::apps
