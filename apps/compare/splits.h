// Who may see what: a direction is made from the extraction split, choices are made on the
// selection split, and the test split is looked at once. Groups are never torn apart, since their
// members are alike.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "steering/directions/contrast_set.h"
#include "steering/directions/near_duplicates.h"
#include "steering/directions/pair_groups.h"
#include "steering/effects/choices.h"

namespace vyx::compare {

using steering::differing, steering::group_texts;

enum class Split { extraction, selection, test };

struct SplitShares {
  double extraction = 0.5, selection = 0.25;  // the rest is for the test
};

/// Indices of items, rising.
struct Splits {
  std::vector<size_t> extraction, selection, test;
  std::vector<size_t> duplicates;  // left out: their group's text is nearly that of an earlier one
  const std::vector<size_t>& of(Split split) const;
};

/// `groups` has each item's group, from 0; `group_texts` each group's text. Throws Error naming
/// `source` when there are too few groups for the splits that have a share.
Splits split_by_group(std::span<const size_t> groups, std::span<const std::string> group_texts,
                      const SplitShares& shares, uint64_t seed, std::string_view source);

/// Continuations of one prompt are a group: the group of each item, and the text of each group.
struct PromptGroups {
  std::vector<size_t> groups;
  std::vector<std::string> texts;
};
PromptGroups group_by_prompt(const std::vector<steering::ContinuationPair>& pairs);

/// SHA-256 of the items as JSON Lines: what a split consisted of, to be compared with another
/// run's.
std::string digest_of(const std::vector<steering::ContrastPair>& pairs,
                      std::span<const size_t> items);
std::string digest_of(const std::vector<steering::ContinuationPair>& pairs,
                      std::span<const size_t> items);
std::string digest_of(const std::vector<steering::ChoiceItem>& items);

}  // namespace vyx::compare
