// Files with one thing per line.
#pragma once
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

namespace vyx {

/// Calls `take` with each line that is not blank, without its end, and with "file:line". Throws
/// Error for a file that cannot be read.
void for_each_line(
    const std::filesystem::path& path,
    const std::function<void(std::string_view line, const std::string& where)>& take);

}  // namespace vyx
