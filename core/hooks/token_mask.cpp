#include "core/hooks/token_mask.h"

#include <ATen/ATen.h>
#include <fmt/ostream.h>

#include "core/base/error.h"
#include "core/hooks/run_frame.h"

namespace vyx {
namespace {

void require_mask(const at::Tensor& mask, const char* name) {
  if (!mask.defined()) return;
  if (mask.dim() != 2 || mask.scalar_type() != at::kBool) {
    fail("token mask: found {} {} of shape {}, expected bool [batch, seq]", name,
         c10::toString(mask.scalar_type()), fmt::streamed(mask.sizes()));
  }
}

}  // namespace

TokenMaskScope::TokenMaskScope(TokenMask mask) {
  require_mask(mask.real, "real");
  require_mask(mask.generated, "generated");
  if (mask.real.defined() && mask.generated.defined() &&
      mask.real.sizes() != mask.generated.sizes()) {
    fail("token mask: real is {}, generated is {}; both are [batch, seq]",
         fmt::streamed(mask.real.sizes()), fmt::streamed(mask.generated.sizes()));
  }
  scope_ =
      std::make_unique<RunFrameScope>(std::make_shared<const ReducedTokenMask>(std::move(mask)));
}

TokenMaskScope::~TokenMaskScope() = default;

const TokenMask* current_token_mask() {
  const RunFrame* frame = current_frame();
  return frame && frame->mask ? &frame->mask->mask() : nullptr;
}

EditableTokens editable_tokens(bool generated_only) {
  const RunFrame* frame = current_frame();
  if (frame && frame->mask) return frame->mask->editable(generated_only);
  return {.any = !generated_only, .mask = {}};
}

}  // namespace vyx
