// A call written into the graphs of a module: what bake() does at a site.
#pragma once
#include <torch/csrc/jit/api/module.h>

#include <string>

#include "core/hooks/site_pattern.h"

namespace vyx {

/// Makes every forward method of `object`, which stands at `site`, pass the first tensor of its
/// value through the object's method x → y of that name. Throws Error naming the site where the
/// value holds no tensor, or its types leave open which tensor is the first.
void pass_through(torch::jit::Module object, const Site& site, const std::string& method);

}  // namespace vyx
