// Latents that are set, shifted, scaled or clamped, as an edit of the activation.
//
// An intervention on f gives y = x̂′ + e with the error e = x − x̂ kept, and since the decoder is
// linear that is
//
//     y = x + Σ_i (f′_i − f_i)·W_dec,i      over the changed latents
//
// (Templeton et al. 2024, "Scaling Monosemanticity", clamp features so). Where a latent's
// activation depends on x alone through one product (relu, jump_relu, gated, batch_topk with its
// threshold; inputs as they are or scaled by a constant) this is a sum of gated rank-one terms:
// O(d) per changed latent and token, however many latents there are. token_norm and layer_norm add
// a readout (core/edits/edit.h) over the rows of the changed latents. TopK's latents depend on each
// other, so that its readout computes all pre-activations, d·latents per token; without the error
// term every architecture's readout encodes and decodes in full.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <limits>
#include <optional>
#include <span>

#include "core/edits/edit.h"
#include "sae/autoencoder/autoencoder.h"

namespace vyx::sae {

/// Holds at tokens where a latent's f, or a direction's product with x, is above a value; both
/// before any change.
struct LatentCondition {
  int64_t latent = -1;
  at::Tensor direction;  // u [d], instead of a latent: u·x > above
  double above = 0;
};

/// Activations are in the autoencoder's own unit: of its normalised input, with
/// Normalization::scale folded or not.
struct LatentChange {
  enum class Kind { set, add, scale, clamp };
  int64_t latent = 0;
  Kind kind = Kind::set;
  double value = 0;  // set: f′ = value; add: f′ = f + value; scale: f′ = value·f
  double low = 0,
         high = std::numeric_limits<double>::infinity();  // clamp: f′ = min(max(f, low), high)
  std::optional<LatentCondition> condition;               // elsewhere f′ = f
};

struct LatentEditOptions {
  bool keep_error = true;  // false: y = x̂′, the raw reconstruction, at every token
};

/// The edit, with its terms in the order of the changes: of set, the constant value·W_dec,i, whose
/// coefficient doses it, and the term that takes f_i away; of add, one constant; of scale, one
/// term; of clamp, one to three. A change that changes nothing keeps a term of no gate, and no
/// change at all is an edit that returns x itself (without the error term: one that returns x̂).
///
/// Agrees with encoding, changing f and decoding up to rounding; a token within rounding of a
/// threshold may fall on its other side. Throws Error for an autoencoder whose target is not its
/// input or that has several sites, for a latent that it lacks or that is changed twice, and for a
/// value that is not finite.
Edit edit_latents(const Autoencoder& sae, std::span<const LatentChange> changes,
                  const LatentEditOptions& options = {});

}  // namespace vyx::sae
