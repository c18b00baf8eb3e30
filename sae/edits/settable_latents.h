// Latents that can be set from Python, in a model that runs with torch alone.
#pragma once
#include <torch/csrc/jit/api/module.h>

#include <span>
#include <vector>

#include "core/edits/bake.h"
#include "sae/edits/latent_edit.h"

namespace vyx::sae {

/// bake() (core/edits/bake.h) of `others` and, behind them, of the edit of `changes` at `site`.
/// Where changes set latents the module has
///
///     set_latent(i: int, value: float)   f′_i = value from now on
///     clear_latent(i: int)               f′_i = f_i from now on
///
/// for those latents (an error names them for any other), besides set_coefficient(c). Throws Error
/// as edit_latents() and bake() do.
torch::jit::Module bake_latents(const torch::jit::Module& module, std::vector<SiteEdit> others,
                                const Site& site, const Autoencoder& sae,
                                std::span<const LatentChange> changes,
                                const LatentEditOptions& options = {}, double coefficient = 1);

}  // namespace vyx::sae
