// What the pairs of a contrast set have in common: a fit that is to be judged on pairs must not
// have seen their like.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "steering/directions/contrast_set.h"

namespace vyx::steering {

/// A text for each group of a set, by which groups can be compared: its first positive text,
/// without what all groups share at its beginning and its end.
std::vector<std::string> group_texts(const ContrastSet& set);

/// Pairs of one group, or of one persona, are alike.
struct PairGroups {
  std::vector<int64_t> groups;    // [pairs]: of pairs with nearly equal texts on any side; of a
                                  // template, of nearly equal beginnings
  std::vector<int64_t> personas;  // [pairs]: of nearly equal personas; 0 for pairs without one
};
PairGroups pair_groups(const ContrastSet& set);

/// What is odd about the pairs of a set, as warnings: pairs that are there again, or with their
/// sides swapped.
std::vector<std::string> oddities_of(const ContrastSet& set);

}  // namespace vyx::steering
