#include "apps/ablation/build_info.h"

#include <fmt/core.h>
#include <toml++/impl/version.h>
#include <torch/version.h>

#include <boost/version.hpp>
#include <nlohmann/json.hpp>

#include "core/base/version.h"
#include "vyx_git_commit.h"  // written by git_commit.cmake

namespace vyx::ablation {

BuildInfo build_info() {
  const auto dotted = [](int number, int major, int minor) {
    return fmt::format("{}.{}.{}", number / major, number % major / minor, number % minor);
  };
  return {
      .version = std::string(kVersion),
      .commit = VYX_GIT_COMMIT,
      .packages = {
          {"LibTorch", TORCH_VERSION},
          {"fmt", dotted(FMT_VERSION, 10'000, 100)},
          {"Boost", dotted(BOOST_VERSION, 100'000, 100)},
          {"toml++", fmt::format("{}.{}.{}", TOML_LIB_MAJOR, TOML_LIB_MINOR, TOML_LIB_PATCH)},
          {"nlohmann-json", fmt::format("{}.{}.{}", NLOHMANN_JSON_VERSION_MAJOR,
                                        NLOHMANN_JSON_VERSION_MINOR, NLOHMANN_JSON_VERSION_PATCH)},
          {"compiler", __VERSION__}}};
}

}  // namespace vyx::ablation
