#include "steering/directions/pair_groups.h"

#include <fmt/format.h>

#include <set>
#include <utility>

#include "steering/directions/near_duplicates.h"

namespace vyx::steering {
namespace {

std::vector<int64_t> looked_up(const std::vector<size_t>& keys, const std::vector<size_t>& table) {
  std::vector<int64_t> values;
  for (const size_t key : keys) values.push_back(static_cast<int64_t>(table[key]));
  return values;
}

/// Each text as an item of its own.
std::vector<std::vector<std::string>> as_items(const std::vector<std::string>& texts) {
  std::vector<std::vector<std::string>> items;
  for (const std::string& text : texts) items.push_back({text});
  return items;
}

/// Both sides of each pair as an item.
std::vector<std::vector<std::string>> sides_of(const ContrastSet& set) {
  std::vector<std::string> texts;
  for (const auto& [positive, negative] : set.pairs) {
    texts.push_back(positive);
    texts.push_back(negative);
  }
  texts = without_shared(std::move(texts));
  std::vector<std::vector<std::string>> items;
  for (size_t i = 0; i < texts.size(); i += 2) items.push_back({texts[i], texts[i + 1]});
  return items;
}

}  // namespace

std::vector<std::string> group_texts(const ContrastSet& set) {
  std::vector<std::string> texts;
  for (size_t i = 0; i < set.pairs.size(); ++i) {
    if (set.groups[i] < texts.size()) continue;
    texts.resize(set.groups[i] + 1);
    texts[set.groups[i]] = set.pairs[i].positive;
  }
  return without_shared(std::move(texts));
}

PairGroups pair_groups(const ContrastSet& set) {
  if (set.personas.empty()) {
    const std::vector<size_t> groups = groups_of_alike(sides_of(set));
    return {.groups = {groups.begin(), groups.end()},
            .personas = std::vector<int64_t>(groups.size())};
  }
  std::vector<std::vector<std::string>> personas;
  for (const auto& [positive, negative] : set.persona_pairs)
    personas.push_back({positive, negative});
  return {.groups = looked_up(set.groups, groups_of_alike(as_items(group_texts(set)))),
          .personas = looked_up(set.personas, groups_of_alike(personas))};
}

std::vector<std::string> oddities_of(const ContrastSet& set) {
  std::vector<std::string> oddities;
  std::set<std::pair<std::string_view, std::string_view>> known;
  size_t repeated = 0, mirrored = 0;
  for (const auto& [positive, negative] : set.pairs) {
    repeated += !known.emplace(positive, negative).second;
    mirrored += known.contains({negative, positive});
  }
  if (repeated > 0)
    oddities.push_back(
        fmt::format("{}: {} of {} pairs repeat an earlier one; they count again in a "
                    "fit, but hold nothing new",
                    set.source, repeated, set.pairs.size()));
  if (mirrored > 0)
    oddities.push_back(fmt::format(
        "{}: {} of {} pairs are an earlier one with its sides swapped; such pairs cancel "
        "out, and from them alone no sign can be known",
        set.source, mirrored, set.pairs.size()));
  return oddities;
}

}  // namespace vyx::steering
