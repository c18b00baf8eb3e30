// The version of vyx, from CMakeLists.txt.
#pragma once
#include <string_view>

namespace vyx {

inline constexpr std::string_view kVersion = VYX_VERSION;

}  // namespace vyx
