// Whether what a program writes would change what it reads.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

namespace vyx {

/// A path that a program was given.
struct PathArgument {
  std::string name;  // what it was given as: "--out"
  std::filesystem::path path;
};

/// Throws Error when one of `outputs` is one of `inputs` or another output, whatever the paths look
/// like (".", "..", symbolic and hard links); when it is there already and lies in a folder of
/// `inputs`; and when it is a folder that holds one of them.
void refuse_overwriting(const std::vector<PathArgument>& outputs,
                        const std::vector<PathArgument>& inputs);

}  // namespace vyx
