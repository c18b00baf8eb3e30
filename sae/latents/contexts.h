// The tokens on which latents fire most, with what stands around them.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "models/activations/row_activations.h"

namespace vyx::sae {

struct Context {
  double activation = 0;
  models::TokenPlace place;
};

/// Keeps the strongest tokens of some latents while text passes by. Two tokens behind the same
/// `window` tokens, themselves included, are one context: what a causal model sees is the same, or
/// nearly.
class TopContexts {
 public:
  TopContexts(std::vector<int64_t> latents, size_t keep, int64_t window);

  /// Latents f [tokens, all latents] of tokens at `places` in `rows`, which must be the same rows
  /// in every call.
  void add(const at::Tensor& f, std::span<const models::TokenPlace> places,
           std::span<const std::vector<models::TokenId>> rows);

  /// Of each latent, the strongest first; fewer when it fires on fewer tokens.
  const std::vector<std::vector<Context>>& contexts() const { return contexts_; }

 private:
  std::vector<int64_t> latents_;
  size_t keep_;
  int64_t window_;
  std::vector<std::vector<Context>> contexts_;
};

}  // namespace vyx::sae
