// How likely a model takes texts to be, teacher-forced, with whatever is hooked in it.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "models/language_model/batch.h"
#include "models/language_model/language_model.h"

namespace vyx::steering {

inline constexpr int64_t kBatchTokens = 2048;  // of one forward, padding included

/// Prompts with as many continuations each, to be measured again and again. A prompt is run once,
/// then its continuations, as if the model had written them (Positions::generated). Memory is rows
/// × length.
class ContinuationBatch {
 public:
  /// Prompt i has the i-th run of as many continuations as each of them has. `first_block`: nothing
  /// before this block will be hooked, so that its input is computed once.
  ContinuationBatch(const models::LanguageModel& model,
                    std::span<const std::vector<models::TokenId>> prompts,
                    std::span<const std::vector<models::TokenId>> continuations,
                    int64_t first_block = 0);

  /// The log-probability in nats of each continuation, the sum over its tokens: [continuations]
  /// float64, on the CPU.
  at::Tensor log_likelihoods(models::LanguageModel& model);

 private:
  int64_t each_;  // continuations per prompt
  models::Batch
      prompt_;  // [prompts, seq], padded on the left, so that the last token of each stands last
  models::Batch continuation_;  // [continuations, seq], padded on the right
  models::BlockInput prompt_input_, continuation_input_;  // of the first block [rows, seq, d]
};

/// Calls `use` with the logits of `hidden` [tokens, d], a part at a time: the place of its first
/// token and [part, vocabulary].
void for_each_logits(models::LanguageModel& model, const at::Tensor& hidden,
                     const std::function<void(int64_t first, const at::Tensor& logits)>& use);

}  // namespace vyx::steering
