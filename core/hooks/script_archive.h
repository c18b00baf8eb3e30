// TorchScript archives (.pt): vetted before they are loaded, loading with one-line errors, saving
// whole or not at all, extra files carried along.
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
  bool traced = false;  // made by torch.jit.trace, at least in part
};

/// Throws Error naming the file for anything that is not a TorchScript archive, and for one that
/// vetting refuses (script_vetting.h): loading runs code that is in it. `extra_files` names those
/// to read; one that is not there is left out of the result.
ScriptArchive load_script(const std::filesystem::path& path,
                          const std::vector<std::string>& extra_files = {},
                          c10::Device device = c10::kCPU);

/// Whether load_script, in all of this process, takes archives unvetted. Not at first.
void trust_scripts(bool trust);

/// Through AtomicFile (libtorch's own save truncates first, never syncs and aborts the process on a
/// full disk).
void save_script(const torch::jit::Module& module, const std::filesystem::path& path,
                 const std::map<std::string, std::string>& extra_files = {});

}  // namespace vyx
