#include "steering/effects/likelihood.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

namespace vyx::steering {
namespace {

constexpr int64_t kHeadTokens =
    256;  // of one product with the head: logits of 50 MB at 49,152 tokens of vocabulary

}  // namespace

ContinuationBatch::ContinuationBatch(const models::LanguageModel& model,
                                     std::span<const std::vector<models::TokenId>> prompts,
                                     std::span<const std::vector<models::TokenId>> continuations,
                                     int64_t first_block)
    : each_(static_cast<int64_t>(continuations.size() / prompts.size())),
      prompt_(models::make_batch(prompts, models::Padding::left, model.pad_token())),
      continuation_(models::make_batch(continuations, models::Padding::right, model.pad_token())),
      prompt_input_{.block = first_block},
      continuation_input_{.block = first_block} {}

at::Tensor ContinuationBatch::log_likelihoods(models::LanguageModel& model) {
  const at::NoGradGuard no_grad;
  const int64_t rows = prompt_.ids.size(0), length = prompt_.ids.size(1);
  models::KvCache cache = model.make_cache(rows, length);
  // After a measurement that failed between the two, both begin anew: whole continuations need keys
  // of all blocks.
  if (!continuation_input_.hidden.defined()) prompt_input_.hidden.reset();
  const at::Tensor before =
      model.extend_from(prompt_input_, cache, prompt_).slice(1, -1);  // [prompts, 1, d]
  models::KvCache all = models::repeat_rows(cache, each_, length + continuation_.ids.size(1));
  const at::Tensor after = model.extend_from(continuation_input_, all, continuation_,
                                             /*generated=*/true);  // [continuations, seq, d]

  // Token j is predicted from what stands before it.
  const at::Tensor hidden = at::cat({before.repeat_interleave(each_, 0), after.slice(1, 0, -1)},
                                    1);  // [continuations, seq, d]
  const at::Tensor real =
      (continuation_.mask.defined() ? continuation_.mask
                                    : at::ones_like(continuation_.ids, at::kBool))
          .to(hidden.device());
  const at::Tensor targets =
      continuation_.ids.to(hidden.device()).index({real}).unsqueeze(1);  // [tokens, 1]
  std::vector<at::Tensor> parts;
  for_each_logits(model, hidden.index({real}), [&](int64_t first, const at::Tensor& logits) {
    const at::Tensor chosen =
        logits.gather(1, targets.slice(0, first, first + logits.size(0))).squeeze(1);  // [part]
    parts.push_back((chosen - logits.logsumexp(1)).to(at::kDouble));
  });
  const at::Tensor tokens = at::cat(parts);  // [tokens]
  return at::zeros(real.sizes(), tokens.options()).masked_scatter(real, tokens).sum(1).cpu();
}

void for_each_logits(models::LanguageModel& model, const at::Tensor& hidden,
                     const std::function<void(int64_t first, const at::Tensor& logits)>& use) {
  for (int64_t first = 0; first < hidden.size(0); first += kHeadTokens)
    use(first, model.head(hidden.slice(0, first, first + kHeadTokens)));
}

}  // namespace vyx::steering
