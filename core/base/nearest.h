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

}  // namespace vyx
