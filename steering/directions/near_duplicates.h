// Texts that are alike: what is found on one of them is not tested by another.
#pragma once
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace vyx::steering {

/// Whether two texts have at least 4 of 5 of their words in common, whatever the order, case and
/// punctuation.
bool nearly_equal(std::string_view a, std::string_view b);

/// Places of the texts, rising, that are not nearly equal to an earlier one of them or to one of
/// `known`.
std::vector<size_t> differing(std::span<const std::string> texts,
                              std::span<const std::string> known = {});

/// The group of each item, from 0 in the order in which groups appear. Items that have nearly equal
/// texts, by themselves or by way of other items, are in one group.
std::vector<size_t> groups_of_alike(std::span<const std::vector<std::string>> items);

/// The texts without the beginning and without the end that all of them share, in whole words.
std::vector<std::string> without_shared(std::vector<std::string> texts);

}  // namespace vyx::steering
