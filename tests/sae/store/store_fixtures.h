// Activation stores and harvests of known rows.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/io/files.h"
#include "models/activations/harvest_inputs.h"
#include "sae/store/store_writer.h"
#include "tests/torch_support.h"

namespace vyx::test {

/// A finished store of these rows [rows, width], by site.
inline sae::StoreManifest write_store(const std::filesystem::path& folder,
                                      const std::map<std::string, at::Tensor>& sites,
                                      ElementType type = ElementType::f32,
                                      uint64_t shard_bytes = 1000) {
  std::vector<std::string> names;
  std::vector<at::Tensor> rows;
  for (const auto& [name, tensor] : sites) {
    names.push_back(name);
    rows.push_back(tensor);
  }
  sae::StoreWriter writer(
      folder,
      {.recipe = {{"model", "none"}}, .sites = names, .type = type, .shard_bytes = shard_bytes});
  const int64_t count = rows[0].size(0);
  for (int64_t at = 0; at < count;) {
    at += writer.append(rows, at, count);
    if (writer.full()) writer.seal({{"row", at}});
  }
  return writer.finish({.sites = std::vector<sae::StoreSite>(names.size())});
}

/// Rows [rows, d] as a module's input and its activations: the site "same:input" is `rows`,
/// "same:output" twice that.
inline models::Harvest harvest_of(const at::Tensor& rows, int64_t batch,
                                  models::HarvestOptions options = {}) {
  const auto unit = std::make_shared<torch::jit::CompilationUnit>();
  torch::jit::Module inner("Double", unit), outer("Outer", unit);
  inner.define("def forward(self, x: Tensor) -> Tensor:\n    return x * 2\n");
  outer.register_module("same", inner);
  outer.define("def forward(self, x: Tensor) -> Tensor:\n    return self.same.forward(x)\n");
  if (options.sites.empty()) options.sites = {Site::parse("same:input")};
  return models::Harvest(models::tensor_input(HookedModule(outer), {{"x", rows}}, {.batch = batch},
                                              {{"module", "double"}}),
                         options);
}

/// Contents by name.
inline std::map<std::string, std::string> files_in(const std::filesystem::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    files[entry.path().filename().string()] = read_text_file(entry.path());
  return files;
}

}  // namespace vyx::test
