#include "steering/directions/control_vector.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

namespace vyx::steering {
namespace {

constexpr size_t kNamedSites = 4;

}  // namespace

int64_t ControlVector::width() const {
  return directions.empty() ? 0 : directions.front().direction.vector.size(-1);
}

std::vector<std::string> doubts_of(const ControlVector& vector) {
  std::vector<std::pair<std::string, std::vector<std::string>>> sites;  // of each doubt
  for (const auto& [site, direction] : vector.directions) {
    for (const std::string& doubt : doubts_of(direction.statistics)) {
      auto known = std::find_if(sites.begin(), sites.end(),
                                [&](const auto& each) { return each.first == doubt; });
      if (known == sites.end()) known = sites.insert(sites.end(), {doubt, {}});
      known->second.push_back(site.name());
    }
  }
  std::vector<std::string> lines;
  for (auto& [doubt, names] : sites) {
    const size_t count = names.size(), all = vector.directions.size();
    names.resize(std::min(count, kNamedSites));
    lines.push_back(count == all
                        ? fmt::format("{} at {}", doubt, all == 1 ? names.front() : "every site")
                        : fmt::format("{} at {} of {} sites: {}{}", doubt, count, all,
                                      fmt::join(names, ", "), count > kNamedSites ? ", …" : ""));
  }
  return lines;
}

}  // namespace vyx::steering
