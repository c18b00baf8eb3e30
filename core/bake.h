// An edit written into an exported module: stock TorchScript, which any Python with torch loads and runs.
#pragma once
#include <torch/csrc/jit/api/module.h>

#include <vector>

#include "core/edit.h"
#include "core/site_pattern.h"

namespace vyx {

struct SiteEdit {
  Site site;
  Edit edit;
};

/// A copy of `module` that edits itself, and has a method `set_coefficient(float)`; 0 gives the module as it was, bit for bit, and c gives
/// what a hooked run with that coefficient gives, bit for bit (but for padding, which it edits too: it cannot know it).
/// Throws Error for a site that the module lacks, that is reached through an interface, whose value holds no tensor, or whose types
/// leave open which tensor is the first.
torch::jit::Module bake(const torch::jit::Module& module, const std::vector<SiteEdit>& edits, double coefficient = 1);

}  // namespace vyx
