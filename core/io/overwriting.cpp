#include "core/io/overwriting.h"

#include <algorithm>
#include <system_error>

#include "core/base/error.h"

namespace vyx {
namespace {

namespace fs = std::filesystem;

// Without links, "." and ".."; what is not there yet keeps its name.
fs::path real_path(const fs::path& path) {
  std::error_code error;
  fs::path real = fs::weakly_canonical(fs::absolute(path), error);
  if (error) real = fs::absolute(path).lexically_normal();
  return real.has_filename() ? real : real.parent_path();  // "folder/" is "folder"
}

bool same_file(const fs::path& a, const fs::path& b) {
  std::error_code error;
  return real_path(a) == real_path(b) || (fs::equivalent(a, b, error) && !error);
}

bool is_there(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error);
}

bool lies_in(const fs::path& path, const fs::path& folder) {
  const fs::path inner = real_path(path), outer = real_path(folder);
  std::error_code error;
  if (inner == outer || !fs::is_directory(outer, error)) return false;
  return std::mismatch(outer.begin(), outer.end(), inner.begin(), inner.end()).first == outer.end();
}

// A file of `folder` under another name: only a file with several names is worth the search.
bool linked_from(const fs::path& file, const fs::path& folder) {
  std::error_code error;
  if (!fs::is_regular_file(file, error) || fs::hard_link_count(file, error) < 2 || error)
    return false;
  for (fs::recursive_directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    std::error_code ignored;
    if (fs::equivalent(file, entry->path(), ignored) && !ignored) return true;
  }
  return false;
}

void refuse(const PathArgument& output, const PathArgument& input) {
  const std::string what = fmt::format("{}: {}", output.path.string(), output.name);
  if (same_file(output.path, input.path))
    fail("{} would overwrite what {} reads; choose another path", what, input.name);
  if (is_there(output.path) &&
      (lies_in(output.path, input.path) || linked_from(output.path, input.path)))
    fail("{} would overwrite a part of what {} reads, {}; choose another path", what, input.name,
         input.path.string());
  if (is_there(input.path) && lies_in(input.path, output.path))
    fail("{} is a folder that holds what {} reads, {}; choose a folder of its own", what,
         input.name, input.path.string());
}

}  // namespace

void refuse_overwriting(const std::vector<PathArgument>& outputs,
                        const std::vector<PathArgument>& inputs) {
  for (auto output = outputs.begin(); output != outputs.end(); ++output) {
    for (const PathArgument& input : inputs) refuse(*output, input);
    for (auto other = outputs.begin(); other != output; ++other)
      if (same_file(output->path, other->path))
        fail("{}: found it for {} and for {}, expected two paths", output->path.string(),
             other->name, output->name);
  }
}

}  // namespace vyx
