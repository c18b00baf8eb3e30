// Copies of modules whose graphs may be changed. Internal to core.
#pragma once
#include <torch/csrc/jit/api/module.h>

#include <memory>
#include <string>
#include <vector>

namespace vyx {

/// A copy of `module` in which every object has a class and functions of its own, in `unit`, so
/// that a graph belongs to one object and has never run. Objects that several paths reach are still
/// one object; tensors are shared with `module`. Functions and script classes that are not modules
/// stay in the compilation unit of `module`, which has to live on. Throws Error for a method that
/// takes a module of a class that several objects have.
torch::jit::Module unshare(const torch::jit::Module& module,
                           std::shared_ptr<torch::jit::CompilationUnit> unit);

struct ModulePath {
  std::string path;           // "model.layers.0"; "" for the root
  torch::jit::Module module;  // the object there; several paths may lead to one
};

/// Every path of the module tree, parents before children.
std::vector<ModulePath> module_paths(const torch::jit::Module& root);

}  // namespace vyx
