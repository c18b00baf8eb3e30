// Which latents of a batch fire: the sparse codes of pre-activations, by each architecture's rule.
// All are exact, in bounded memory, and do not depend on the number of threads. Values are
// pre-activations z; of equal ones the lower latent (then the earlier token) comes first.
#pragma once
#include <cstdint>
#include <optional>

#include "sae/kernels/preactivations.h"
#include "sae/kernels/sparse_code.h"

namespace vyx::sae {

/// The k largest of each token, those of them that are positive.
SparseCode select_topk(const Preactivations& all, int64_t k);

/// The `count` largest of the whole batch, those of them that are positive.
SparseCode select_batch_topk(const Preactivations& all, int64_t count);

/// All with z > lower[latent]; nothing when these are more than `limit` a token on average, over
/// the first tile or over the batch.
std::optional<SparseCode> select_above(const Preactivations& all, const float* lower, double limit);

}  // namespace vyx::sae
