// What is in a TorchScript archive, read as data and as text: nothing of it is loaded, and none of
// its code runs.
#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace vyx {

struct ScriptOutline {
  struct Parameter {
    std::string name, type;  // "model.norm.weight", "Float"
    std::vector<int64_t> shape;
  };
  std::vector<std::string> sites;     // those of HookedModule
  std::vector<Parameter> parameters;  // in the order of the tree
  std::vector<std::string>
      opaque;  // modules that save a state of their own: what is in them is not known
  std::map<std::string, std::string> extra_files;
};

/// Throws Error naming the file for what is no such archive, is damaged or beyond bounds.
/// `extra_files` names those to read; one that is not there is left out of the result.
ScriptOutline outline_script(const std::filesystem::path& path,
                             const std::vector<std::string>& extra_files = {});

}  // namespace vyx
