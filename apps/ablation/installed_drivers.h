// The drivers that stand beside this program.
#pragma once
#include <filesystem>
#include <map>
#include <string>

#include "apps/ablation/plan.h"

namespace vyx::ablation {

class InstalledDrivers : public DriverCatalog {
 public:
  explicit InstalledDrivers(std::filesystem::path folder) : folder_(std::move(folder)) {}

  /// Asks the driver for its options, once.
  const DriverInfo& find(const std::string& name, const std::string& place) override;

 private:
  std::filesystem::path folder_;
  std::map<std::string, DriverInfo> known_;
};

/// The folder of the running program. Throws Error where /proc does not say.
std::filesystem::path program_folder();

}  // namespace vyx::ablation
