#include "apps/options/sites.h"

#include <algorithm>

namespace vyx::apps {

std::vector<Site> sites_of(const HookedModule& module, const std::vector<std::string>& patterns) {
  std::vector<Site> sites;
  for (const std::string& pattern : patterns)
    for (const Site& site : module.match(pattern))
      if (std::find(sites.begin(), sites.end(), site) == sites.end()) sites.push_back(site);
  return sites;
}

}  // namespace vyx::apps
