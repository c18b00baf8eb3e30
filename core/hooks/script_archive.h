// TorchScript archives (.pt): loading with one-line errors, saving whole or not at all, extra files
// carried along. Loading a .pt runs code that is in it: only load files that you trust.
#pragma once
#include <c10/core/Device.h>
#include <torch/csrc/jit/api/module.h>

#include <filesystem>
#include <map>
#include <string>

namespace vyx {

struct ScriptArchive {
  torch::jit::Module module;  // in eval mode
  std::map<std::string, std::string> extra_files;
};

/// Throws Error naming the file for anything that is not a TorchScript archive. `extra_files` names
/// those to read; one that is not there is left out of the result.
ScriptArchive load_script(const std::filesystem::path& path,
                          const std::vector<std::string>& extra_files = {},
                          c10::Device device = c10::kCPU);

/// Through AtomicFile (libtorch's own save truncates first, never syncs and aborts the process on a
/// full disk).
void save_script(const torch::jit::Module& module, const std::filesystem::path& path,
                 const std::map<std::string, std::string>& extra_files = {});

}  // namespace vyx
