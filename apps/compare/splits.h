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
#include "steering/effects/choices.h"

namespace vyx::compare {

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

/// Items of groups 0 …, whose texts are `group_texts`. Throws Error naming `source` when there are
/// too few groups for a split with a share: found, expected.
Splits split_by_group(std::span<const size_t> groups, std::span<const std::string> group_texts,
                      const SplitShares& shares, uint64_t seed, std::string_view source);

/// What tells the groups of a set apart: each one's first positive text without the beginning that
/// all of them share.
std::vector<std::string> group_texts(const steering::ContrastSet& set);

/// Whether two texts have at least 4 of 5 of their words in common, whatever the order, case and
/// punctuation.
bool nearly_equal(std::string_view a, std::string_view b);

/// Places of the texts, rising, that are not nearly equal to an earlier one of them or to one of
/// `known`.
std::vector<size_t> differing(std::span<const std::string> texts,
                              std::span<const std::string> known = {});

/// Continuations of one prompt are a group: an item's group, and the text of each.
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
