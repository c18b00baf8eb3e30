#include "steering/effects/likelihood.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <array>

#include "core/base/error.h"

namespace vyx::steering {
namespace {

constexpr int64_t kMinPrefix = 8;  // tokens that prompts must share to be worth a run of their own

/// How many tokens all prompts begin with; each keeps one of its own.
int64_t common_prefix(std::span<const std::vector<models::TokenId>> prompts) {
  size_t length = prompts.front().size();
  for (const auto& prompt : prompts) {
    length = std::min(length, std::max<size_t>(prompt.size(), 1) - 1);
    length = static_cast<size_t>(std::mismatch(prompt.begin(),
                                               prompt.begin() + static_cast<int64_t>(length),
                                               prompts.front().begin())
                                     .first -
                                 prompt.begin());
  }
  return prompts.size() > 1 && static_cast<int64_t>(length) >= kMinPrefix
             ? static_cast<int64_t>(length)
             : 0;
}

}  // namespace

at::Tensor extend_copies(models::LanguageModel& model, models::BlockInput& input,
                         models::KvCache& cache, const models::Batch& batch, int64_t copies,
                         bool generated) {
  if (copies == 1) return model.extend_from(input, cache, batch, generated);
  models::Forward forward{
      .real = batch.mask.defined() ? batch.mask.repeat({copies, 1}) : batch.mask,
      .cache = &cache,
      .generated = generated};
  if (input.hidden.defined()) {
    forward.hidden = input.hidden.repeat({copies, 1, 1});
    forward.from_block = input.block;
  } else {
    forward.ids = batch.ids.repeat({copies, 1});
  }
  return model.run(forward);
}

ContinuationBatch::ContinuationBatch(const models::LanguageModel& model,
                                     std::span<const std::vector<models::TokenId>> prompts,
                                     std::span<const std::vector<models::TokenId>> continuations,
                                     int64_t first_block)
    : each_(static_cast<int64_t>(continuations.size() / prompts.size())),
      continuation_(models::make_batch(continuations, models::Padding::right, model.pad_token())),
      prefix_input_{.block = first_block},
      prompt_input_{.block = first_block},
      continuation_input_{.block = first_block} {
  const int64_t prefix = common_prefix(prompts);
  std::vector<std::vector<models::TokenId>> rests;
  for (const auto& prompt : prompts) rests.emplace_back(prompt.begin() + prefix, prompt.end());
  prompt_ = models::make_batch(rests, models::Padding::left, model.pad_token());
  if (prefix > 0) {
    const std::array shared{
        std::vector<models::TokenId>(prompts.front().begin(), prompts.front().begin() + prefix)};
    prefix_ = models::make_batch(shared, models::Padding::right, model.pad_token());
  }
  if (continuation_.ids.size(1) > 1)  // a token is run where another one follows it
    run_ = {.ids = continuation_.ids.slice(1, 0, -1).contiguous(),
            .mask = continuation_.mask.defined() ? continuation_.mask.slice(1, 1).contiguous()
                                                 : continuation_.mask};
}

void ContinuationBatch::prepare(models::LanguageModel& model) {
  if (!prompt_input_.hidden.defined()) log_likelihoods(model);
}

int64_t ContinuationBatch::tokens() const {
  int64_t tokens = 0;
  for (const models::Batch* batch : {&prefix_, &prompt_, &run_})
    if (batch->ids.defined()) tokens += batch->ids.numel();
  return tokens;
}

at::Tensor ContinuationBatch::log_likelihoods(models::LanguageModel& model, int64_t copies) {
  const at::NoGradGuard no_grad;
  // After a measurement that failed between two of them, all begin anew: the later ones need keys
  // of all blocks.
  if (run_.ids.defined() && !continuation_input_.hidden.defined()) prompt_input_.hidden.reset();
  if (!prompt_input_.hidden.defined()) prefix_input_.hidden.reset();
  const int64_t shared = prefix_.ids.defined() ? prefix_.ids.size(1) : 0,
                length = shared + prompt_.ids.size(1), prompts = prompt_.ids.size(0);
  models::KvCache cache = model.make_cache(shared > 0 ? copies : copies * prompts, length);
  if (shared > 0) {
    extend_copies(model, prefix_input_, cache, prefix_, copies);
    cache = models::repeat_rows(cache, prompts, length);
  }
  at::Tensor hidden = extend_copies(model, prompt_input_, cache, prompt_, copies)
                          .slice(1, -1)
                          .repeat_interleave(each_, 0);  // [copies · continuations, 1, d]
  if (run_.ids.defined()) {
    models::KvCache all = models::repeat_rows(cache, each_, length + run_.ids.size(1));
    hidden = at::cat({hidden, extend_copies(model, continuation_input_, all, run_, copies,
                                            /*generated=*/true)},
                     1);  // [copies · continuations, seq, d]
  }

  // Token j is predicted from what stands before it.
  const at::Tensor real =
      (continuation_.mask.defined() ? continuation_.mask
                                    : at::ones_like(continuation_.ids, at::kBool))
          .to(hidden.device())
          .repeat({copies, 1});  // [copies · continuations, seq]
  const at::Tensor targets = continuation_.ids.to(hidden.device())
                                 .repeat({copies, 1})
                                 .index({real})
                                 .unsqueeze(1);  // [tokens, 1]
  std::vector<at::Tensor> parts;
  for_each_logits(model, hidden.index({real}), [&](int64_t first, const at::Tensor& logits) {
    const at::Tensor chosen =
        logits.gather(1, targets.slice(0, first, first + logits.size(0))).squeeze(1);  // [part]
    parts.push_back((chosen - logits.logsumexp(1)).to(at::kDouble));
  });
  const at::Tensor tokens = at::cat(parts);  // [tokens]
  require_finite(tokens, "log-probabilities of the continuations");
  return at::zeros(real.sizes(), tokens.options()).masked_scatter(real, tokens).sum(1).cpu();
}

void for_each_run(models::LanguageModel& model, const Site& site,
                  std::span<const Edit* const> edits, int64_t tokens_each,
                  const std::function<void(size_t first, int64_t count)>& use) {
  const auto most = static_cast<size_t>(std::max(int64_t{1}, kBatchTokens / tokens_each));
  for (size_t first = 0; first < edits.size(); first += most) {
    const auto part = edits.subspan(first, std::min(most, edits.size() - first));
    AttachedEdit attached = attach(model.module(), site, part);
    use(first, static_cast<int64_t>(part.size()));
    attached.require_fired();
  }
}

void require_finite(const at::Tensor& values, const char* what, const char* advice) {
  const at::Tensor finite = values.isfinite();
  if (finite.all().item<bool>()) return;
  fail("the {}: found {} of {} that are not finite, expected numbers{}", what,
       finite.logical_not().sum().item<int64_t>(), values.numel(), advice);
}

void for_each_logits(models::LanguageModel& model, const at::Tensor& hidden,
                     const std::function<void(int64_t first, const at::Tensor& logits)>& use) {
  for (int64_t first = 0; first < hidden.size(0); first += kHeadTokens)
    use(first, model.head(hidden.slice(0, first, first + kHeadTokens)));
}

}  // namespace vyx::steering
