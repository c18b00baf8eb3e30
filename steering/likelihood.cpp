#include "steering/likelihood.h"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

namespace vyx::steering {
namespace {

constexpr int64_t kHeadTokens = 256;  // of one product with the head: logits of 50 MB at 49,152 tokens of vocabulary

}  // namespace

at::Tensor log_likelihoods(models::LanguageModel& model, std::span<const std::vector<models::TokenId>> prompts,
                           std::span<const std::vector<models::TokenId>> continuations) {
  const at::NoGradGuard no_grad;
  const auto each = static_cast<int64_t>(continuations.size() / prompts.size());
  // Prompts are padded on the left, so that the last token of each stands last.
  const models::TokenId pad = model.pad_token();
  const models::Batch prompt = models::make_batch(prompts, models::Padding::left, pad);
  const models::Batch continuation = models::make_batch(continuations, models::Padding::right, pad);
  models::KvCache cache = model.make_cache(prompt.ids.size(0), prompt.ids.size(1));
  const at::Tensor before = model.extend(cache, prompt).slice(1, -1);  // [prompts, 1, d]
  models::KvCache all = model.repeat(cache, each, prompt.ids.size(1) + continuation.ids.size(1));
  const at::Tensor after = model.extend(all, continuation, /*generated=*/true);  // [continuations, seq, d]

  // Token j is predicted from what stands before it.
  const at::Tensor hidden = at::cat({before.repeat_interleave(each, 0), after.slice(1, 0, -1)}, 1);  // [continuations, seq, d]
  const at::Tensor real =
      (continuation.mask.defined() ? continuation.mask : at::ones_like(continuation.ids, at::kBool)).to(hidden.device());
  const at::Tensor states = hidden.index({real}), targets = continuation.ids.to(hidden.device()).index({real});  // [tokens, d], [tokens]
  std::vector<at::Tensor> parts;
  for (int64_t first = 0; first < targets.size(0); first += kHeadTokens) {
    const at::Tensor logits = model.head(states.slice(0, first, first + kHeadTokens));  // [part, vocabulary]
    const at::Tensor chosen = logits.gather(1, targets.slice(0, first, first + kHeadTokens).unsqueeze(1)).squeeze(1);
    parts.push_back((chosen - logits.logsumexp(1)).to(at::kDouble));
  }
  const at::Tensor tokens = at::cat(parts);  // [tokens]
  return at::zeros(real.sizes(), tokens.options()).masked_scatter(real, tokens).sum(1).cpu();
}

}  // namespace vyx::steering
