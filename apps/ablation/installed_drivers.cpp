#include "apps/ablation/installed_drivers.h"

#include <algorithm>
#include <vector>

#include "apps/ablation/process.h"
#include "core/base/error.h"
#include "core/base/nearest.h"
#include "core/base/text.h"
#include "core/io/digest.h"

namespace vyx::ablation {
namespace {

constexpr std::string_view kPrefix = "vyx-";

}  // namespace

const DriverInfo& InstalledDrivers::find(const std::string& name, const std::string& place) {
  if (const auto found = known_.find(name); found != known_.end()) return found->second;
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder_))
    if (const std::string file = entry.path().filename().string();
        file.starts_with(kPrefix) && file != "vyx-ablate")
      names.push_back(file.substr(kPrefix.size()));
  std::sort(names.begin(), names.end());
  if (std::find(names.begin(), names.end(), name) == names.end())
    fail("{}: there is no driver {} beside this program{}", place, quote(name),
         did_you_mean(name, names));
  const auto path = folder_ / (std::string(kPrefix) + name);
  DriverInfo info = parse_driver_info(output_of(path, {"--help", "--json"}),
                                      path.filename().string() + " --help --json");
  info.path = path;
  info.sha256 = sha256_file(path);
  return known_.emplace(name, std::move(info)).first->second;
}

std::filesystem::path program_folder() {
  std::error_code error;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error)
    fail("/proc/self/exe: cannot read it ({}), to find the drivers beside this program",
         error.message());
  return program.parent_path();
}

}  // namespace vyx::ablation
