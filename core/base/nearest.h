// "Did you mean": the known names that are most like an unknown one.
#pragma once
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace vyx {

/// Those of `names` that are most like `name`, by edit distance: for "did you mean".
std::vector<std::string> nearest(std::string_view name, std::span<const std::string> names,
                                 size_t count = 3);

}  // namespace vyx
