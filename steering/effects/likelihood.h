// How likely a model takes texts to be, teacher-forced, with whatever is hooked in it.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "core/edits/attached_edit.h"
#include "models/language_model/batch.h"
#include "models/language_model/language_model.h"

namespace vyx::steering {

inline constexpr int64_t kBatchTokens = 2048;  // of one forward, padding included
inline constexpr int64_t kHeadTokens = 128;    // of one product with the head: logits of 25 MB at
                                               // 49,152 tokens, which malloc keeps for the next

/// As LanguageModel::extend_from, for `copies` of the batch side by side: run after run of rows, as
/// attach() takes several edits. [copies · batch, seq, d].
at::Tensor extend_copies(models::LanguageModel& model, models::BlockInput& input,
                         models::KvCache& cache, const models::Batch& batch, int64_t copies,
                         bool generated = false);

/// Prompts with as many continuations each, to be measured again and again. What all prompts begin
/// with is run once, then what is left of each, then the continuations, as if the model had written
/// them (Positions::generated). Memory is rows × length.
class ContinuationBatch {
 public:
  /// Prompt i has the i-th run of as many continuations as each of them has. `first_block`: nothing
  /// before this block will be hooked, so that its input is computed once.
  ContinuationBatch(const models::LanguageModel& model,
                    std::span<const std::vector<models::TokenId>> prompts,
                    std::span<const std::vector<models::TokenId>> continuations,
                    int64_t first_block = 0);

  /// The log-probability in nats of each continuation, the sum over its tokens: [copies ·
  /// continuations] float64, on the CPU. Throws Error where it is not finite.
  at::Tensor log_likelihoods(models::LanguageModel& model, int64_t copies = 1);

  /// Runs once, if it never has, so that what enters the first block is known.
  void prepare(models::LanguageModel& model);
  int64_t tokens() const;  // that a copy runs, padding included

 private:
  int64_t each_;          // continuations per prompt
  models::Batch prefix_;  // [1, seq]; no ids: the prompts begin with nothing in common
  // [prompts, seq], padded on the left, so that the last token of each stands last.
  models::Batch prompt_;
  models::Batch continuation_;  // [continuations, seq], padded on the right
  models::Batch run_;  // the same without each one's last token, from which nothing is predicted;
                       // no ids: all have one token
  // Of the first block [rows, seq, d].
  models::BlockInput prefix_input_, prompt_input_, continuation_input_;
};

/// Calls `use(edits, results)` with the edits' places first … first + count, so many at a time as
/// have at most kBatchTokens tokens, while they are attached at `site`.
void for_each_run(models::LanguageModel& model, const Site& site,
                  std::span<const Edit* const> edits, int64_t tokens_each,
                  const std::function<void(size_t first, int64_t count)>& use);

/// Calls `use` with the logits of `hidden` [tokens, d], a part at a time: the place of its first
/// token and [part, vocabulary].
void for_each_logits(models::LanguageModel& model, const at::Tensor& hidden,
                     const std::function<void(int64_t first, const at::Tensor& logits)>& use);

/// Throws Error, saying how many of `values` are not finite. `what`: "log-probabilities".
void require_finite(const at::Tensor& values, const char* what, const char* advice = "");

}  // namespace vyx::steering
