// Any TorchScript module, with forward hooks at every submodule's input and output.
#pragma once
#include <ATen/core/ivalue.h>
#include <torch/csrc/jit/api/module.h>

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/hooks/hook_registry.h"
#include "core/hooks/site_pattern.h"

namespace vyx {

using Arguments = std::vector<c10::IValue>;
using KeywordArguments = std::unordered_map<std::string, c10::IValue>;

/// An instrumented copy of a module. The original is untouched and its tensors are shared. Scripted
/// and traced modules alike; copies of a HookedModule are the same module. Thread-safe: several
/// threads may run it and hook it at once.
class HookedModule {
 public:
  explicit HookedModule(const torch::jit::Module& module);

  /// All sites, in the order of the module tree, inputs before outputs. A submodule that several
  /// paths reach has them all.
  const std::vector<std::string>& sites() const;

  /// The sites that `pattern` (site_pattern.h) chooses, in the order of sites(), one name an
  /// object. Throws Error naming the nearest sites when one of its alternatives chooses none.
  std::vector<Site> match(std::string_view pattern) const;

  /// Throws Error naming the nearest sites for one that the module lacks.
  void require(std::span<const Site> sites) const;

  /// Hooks every site that `pattern` chooses. Hooks of a site run in the order in which they were
  /// added.
  HookHandle hook(std::string_view pattern, Hook hook);
  HookHandle hook(std::span<const Site> sites, Hook hook);

  /// Runs a method; forward as Python's m(x) does, with the hooks that were compiled into the root:
  /// its sites are what these make of its input and output. A hook's exception arrives as it was
  /// thrown; TorchScript's own errors as Error with the module's path.
  c10::IValue forward(Arguments args, const KeywordArguments& kwargs = {}) {
    return run("forward", std::move(args), kwargs);
  }
  c10::IValue run(const std::string& method, Arguments args, const KeywordArguments& kwargs = {});

  /// Runs a method for its hooks alone: it stops when every hooked site has had its only call. With
  /// a site that the method may reach more than once (a shared submodule, a loop, a fork) it runs
  /// to the end. Without hooks it does not run at all.
  void harvest(const std::string& method, Arguments args, const KeywordArguments& kwargs = {});

  /// At most how often `method` calls the submodule at `site`: 0, 1, or 2 for "perhaps more than
  /// once". From the graph.
  int calls_at_most(const std::string& method, const Site& site) const;

  /// The instrumented module itself, for attributes and parameters. Use it while this HookedModule
  /// lives; don't save it.
  const torch::jit::Module& module() const;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace vyx
