// "Did you mean": the known names nearest to an unknown one.
#pragma once
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace vyx {

/// The `count` of `names` nearest to `name` by edit distance, the nearest first.
std::vector<std::string> nearest(std::string_view name, std::span<const std::string> names,
                                 size_t count = 3);

/// "; did you mean sweep?" with the nearest of `known`, or "; there are none".
std::string did_you_mean(std::string_view name, std::span<const std::string> known);

}  // namespace vyx
