// How much of a line a text takes.
#pragma once
#include <cstddef>
#include <string_view>

namespace vyx {

/// The columns that `text` takes on a terminal: one per character, as all that we print has.
size_t display_width(std::string_view text);

}  // namespace vyx
