// An autoencoder as TorchScript, for Python with torch alone, and as what an edit reads.
#pragma once
#include <ATen/core/Tensor.h>
#include <torch/csrc/jit/api/module.h>

#include <cstdint>
#include <vector>

#include "core/edits/edit.h"
#include "sae/autoencoder/autoencoder.h"

namespace vyx::sae {

/// A module with
///     encode(x [.., d_in]) → f [.., latents]
///     decode(f [.., latents], x [.., d_in] | None) → x̂ [.., d_out]
///     forward(x [.., d_in]) → x̂ [.., d_out]
///     set_latent(i: int, value: float), clear_latents()
///     implicit_vector(x [.., d_in]) → v [.., d_out]
/// and the weights as parameters by SAELens's names, W_enc [latents, d_in]. decode needs x for a
/// norm per token and for a skip connection. v is what the latents that are set (f′_i = value) add
/// to the reconstruction, Σ (f′_i − f_i)·W_dec,i, and, with the error kept, to x: v = y − x.
///
/// encode and decode are the code that encode() and decode() run (autoencoder/formulas.h): the
/// results are the same bits where the same LibTorch runs them. Normalization::scale is folded. The
/// weights are shared.
torch::jit::Module export_script(const Autoencoder& sae);

struct ReadoutOptions {
  std::vector<int64_t> latents;  // whose f are read, in this order
  at::Tensor directions;  // u whose products u·x are read behind them [n, d_in]; undefined: none
  bool reconstruction = false;  // base x̂ − x
};
/// A core Readout: z = f of the latents and u·x of the directions [.., columns], spread = ‖x̂‖ per
/// unit of ‖x̂'‖ where the normalisation is a token's own, base = x̂ − x or None. It encodes with
/// export_script's module: with the whole autoencoder where latents compete and for a
/// reconstruction; otherwise with the rows of those latents alone.
Readout export_readout(const Autoencoder& sae, const ReadoutOptions& options);

}  // namespace vyx::sae
