#include "models/activations/row_filter.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <utility>

namespace vyx::models {

RowFacts facts_of(const Tokenizer& tokenizer, at::Tensor tokens, at::Tensor real) {
  const at::Tensor ids = tokens.contiguous(), known = real.defined() ? real.contiguous() : real;
  at::Tensor special = at::zeros(ids.sizes(), at::kBool);
  const auto* id = ids.const_data_ptr<TokenId>();
  const auto* is_real = known.defined() ? known.const_data_ptr<bool>() : nullptr;
  auto* is_special = special.mutable_data_ptr<bool>();
  bool any = false;
  for (int64_t i = 0; i < ids.numel(); ++i)
    any |= is_special[i] = (is_real == nullptr || is_real[i]) && tokenizer.is_special(id[i]);
  return {.real = std::move(real),
          .special = any ? std::move(special) : at::Tensor(),
          .tokens = std::move(tokens)};
}

at::Tensor text_rows(const RowFacts& facts, bool keep_special) {
  if (!facts.special.defined() || keep_special) return facts.real;
  return facts.real.defined() ? facts.real & ~facts.special : ~facts.special;
}

at::Tensor row_norms(const at::Tensor& x) {
  return at::linalg_vector_norm(x, 2, at::IntArrayRef{-1}).contiguous();
}

double sink_limit(double median_norm, double threshold) {
  // Where most rows are zero, the others are no sinks but the data.
  return threshold > 0 && median_norm > 0 ? threshold * median_norm : kAnyNorm;
}

at::Tensor are_within(const at::Tensor& norms, double limit) {
  return norms <= limit;
}

RegularRows regular_rows(const RowFacts& facts, const at::Tensor& norms, double max_norm) {
  const at::Tensor text = text_rows(facts), within = are_within(norms, max_norm);
  if (!text.defined()) return {.keep = within, .left = {.sinks = count_of(~within)}};
  return {.keep = text & within,
          .left = {.special = facts.special.defined() ? count_of(facts.special) : 0,
                   .sinks = count_of(text & ~within)}};
}

uint64_t count_of(const at::Tensor& mask) {
  return static_cast<uint64_t>(mask.sum().item<int64_t>());
}

}  // namespace vyx::models
