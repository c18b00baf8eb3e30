// The latents of a batch as what they are: few. Compressed rows by token, and the same entries in
// the order of latents.
#pragma once
#include <cstdint>
#include <vector>

namespace vyx::sae {

/// Token t's entries are offsets[t] … offsets[t + 1] − 1, latents rising.
struct SparseCode {
  int64_t latents = 0;
  std::vector<int64_t> offsets = {0};  // [tokens + 1]
  std::vector<int32_t> indices;        // [entries] latent
  std::vector<float> values;           // [entries]

  int64_t tokens() const { return int64_t(offsets.size()) - 1; }
  int64_t entries() const { return int64_t(indices.size()); }
};

/// Joins the codes of successive tokens.
SparseCode join(const std::vector<SparseCode>& parts, int64_t latents);

/// A code's entries by latent, within a latent in the order of tokens: latent i's are offsets[i] …
/// offsets[i + 1] − 1.
struct LatentOrder {
  std::vector<int64_t> offsets;  // [latents + 1]
  std::vector<int32_t> tokens;   // [entries]
  std::vector<int32_t> entries;  // [entries] place in the code
};

LatentOrder by_latent(const SparseCode& code);

}  // namespace vyx::sae
