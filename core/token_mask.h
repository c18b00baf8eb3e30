// Which tokens of the forward that is running are real, and which were generated. A language model says so around each of
// its forwards; edits look here, so that padding is never edited and an edit can be kept to generated tokens.
#pragma once
#include <ATen/core/Tensor.h>

namespace vyx {

struct TokenMask {
  at::Tensor real;       // [batch, seq] bool; undefined: all tokens are real
  at::Tensor generated;  // [batch, seq] bool; undefined: no token is generated
};

/// Sets the mask of this thread until the end of the scope. Scopes nest. Branches that a module forks to other threads don't see it.
class TokenMaskScope {
 public:
  explicit TokenMaskScope(TokenMask mask);
  TokenMaskScope(const TokenMaskScope&) = delete;
  TokenMaskScope& operator=(const TokenMaskScope&) = delete;
  ~TokenMaskScope();

 private:
  TokenMask mask_;
  const TokenMask* outer_;
};

/// The mask of the innermost scope of this thread, or nullptr.
const TokenMask* current_token_mask();

}  // namespace vyx
