// Which tokens of the running forward are real, and which were generated. A language model says so
// around each of its forwards. Edits look here: they never touch padding, and some touch generated
// tokens only.
#pragma once
#include <ATen/core/Tensor.h>

#include <memory>

namespace vyx {

struct TokenMask {
  at::Tensor real;       // [batch, seq] bool; undefined: all tokens are real
  at::Tensor generated;  // [batch, seq] bool; undefined: no token is generated
};

class RunFrameScope;

/// Sets the mask of this thread, and of the branches that a module forks from it, until the end of
/// the scope. Scopes nest. Throws Error when the two masks are not bool, or not of one shape
/// [batch, seq].
class TokenMaskScope {
 public:
  explicit TokenMaskScope(TokenMask mask);
  TokenMaskScope(const TokenMaskScope&) = delete;
  TokenMaskScope& operator=(const TokenMaskScope&) = delete;
  ~TokenMaskScope();

 private:
  std::unique_ptr<RunFrameScope> scope_;
};

/// The mask of the innermost scope, or nullptr.
const TokenMask* current_token_mask();

/// What an edit may touch: the real tokens, or the real ones that were generated.
struct EditableTokens {
  bool any = true;  // false: nothing
  at::Tensor mask;  // [batch, seq] bool; undefined: all tokens
};
/// Of the current mask, reduced once per scope (a reduction synchronises a GPU). Without a scope
/// all tokens are real and none is generated.
EditableTokens editable_tokens(bool generated_only);

}  // namespace vyx
