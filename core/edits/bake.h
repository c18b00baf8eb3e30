// An edit written into an exported module: stock TorchScript, which any Python with torch loads and
// runs.
#pragma once
#include <torch/csrc/jit/api/module.h>

#include <cstddef>
#include <vector>

#include "core/edits/edit.h"
#include "core/hooks/site_pattern.h"

namespace vyx {

struct SiteEdit {
  Site site;
  Edit edit;
};

/// A copy of `module` that edits itself, and has a method `set_coefficient(float)`; 0 gives the
/// module as it was, bit for bit, and c gives what a hooked run with that coefficient gives, bit
/// for bit (but for padding, which it edits too: it cannot know it). An edit's readout becomes a
/// submodule. For the edits whose places are in `adjustable` there is a method `set_gate(edit: int,
/// term: int, gate: List[float])`, which gives that term of edits[edit] another gate (constant,
/// linear, rectified, step; only the constant of a term that reads nothing; not of a term whose
/// gate was all 0). Throws Error for a site that the module lacks, that is reached through an
/// interface, within an object with a __setstate__, or before a compiled hook of the root, whose
/// value holds no tensor, or whose types leave open which tensor is the first. Like a hooked edit,
/// a baked one refuses activations of more than kMostDimensions, when it runs.
torch::jit::Module bake(const torch::jit::Module& module, const std::vector<SiteEdit>& edits,
                        double coefficient = 1, const std::vector<size_t>& adjustable = {});

}  // namespace vyx
