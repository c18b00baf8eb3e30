#include "core/io/lines.h"

#include <fmt/format.h>

#include "core/io/files.h"

namespace vyx {

void for_each_line(
    const std::filesystem::path& path,
    const std::function<void(std::string_view line, const std::string& where)>& take) {
  const std::string text = read_text_file(path);
  std::string_view rest = text;
  for (int64_t number = 1; !rest.empty(); ++number) {
    const size_t end = rest.find('\n');
    std::string_view line = rest.substr(0, end);
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.find_first_not_of(" \t") == std::string_view::npos) continue;
    take(line, fmt::format("{}:{}", path.string(), number));
  }
}

}  // namespace vyx
