// An autoencoder as TorchScript, for Python with torch alone.
#pragma once
#include <torch/csrc/jit/api/module.h>

#include "sae/autoencoder.h"

namespace vyx::sae {

/// A module with
///     encode(x [.., d_in]) → f [.., latents]
///     decode(f [.., latents], x [.., d_in] | None) → x̂ [.., d_out]    x is needed for a normalisation a token and a skip connection
///     forward(x [.., d_in]) → x̂ [.., d_out]
/// and the weights as parameters by SAELens's names, W_enc [latents, d_in]. It runs the operators of encode() and decode(), one by one, so
/// that the results are the same bits where the same LibTorch runs them. Normalization::scale is folded. The weights are shared.
torch::jit::Module export_script(const Autoencoder& sae);

}  // namespace vyx::sae
