#include "models/activations/logit_lens.h"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <fmt/ranges.h>

#include "core/base/error.h"
#include "core/hooks/activation.h"
#include "core/hooks/activation_reader.h"

namespace vyx::models {

at::Tensor logit_lens(LanguageModel& model, const at::Tensor& vectors) {
  const int64_t width = model.config().spec.d_model;
  if (vectors.dim() != 2 || vectors.size(0) == 0 || vectors.size(1) != width)
    fail(
        "logit lens: found vectors [{}], expected [n, {}], the width of the model's residual "
        "stream",
        fmt::join(vectors.sizes(), ", "), width);
  const at::NoGradGuard no_grad;
  // A forward of one token per vector, in which the vectors take the place of the last block's
  // output: whatever an architecture has between that and the head is there.
  const Site last = model.block_output(model.config().spec.layers() - 1);
  const auto replace = [&](const Site&, const c10::IValue& value) -> std::optional<c10::IValue> {
    return with_activation(
        value, vectors.unsqueeze(1).to(activation_of(value)->options()));  // [n, 1, d_model]
  };
  const int64_t count = vectors.size(0);
  at::Tensor hidden;  // [n, 1, d_model]
  run_hooked(model.module(), std::span(&last, 1), replace, [&] {
    hidden = model.run({.ids = at::full({count, 1}, model.pad_token(), at::kLong)});
  });
  return model.head(hidden.squeeze(1)).cpu();
}

}  // namespace vyx::models
