// Text from a language model, token by token, under whatever hooks its module has.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "models/generation/sampler.h"
#include "models/language_model/language_model.h"

namespace vyx::models {

struct GenerateOptions {
  int64_t max_tokens = 128;
  SamplingOptions sampling;
  // Generation ends before the first of these texts, or at one of these control tokens
  // ("<|im_end|>"); never shown.
  std::vector<std::string> stop;
  bool ignore_end = false;  // go on after an end token, up to max_tokens (for measurements)
  /// Called with each piece of text as it becomes certain: whole characters, and nothing that may
  /// be the start of a stop string. Row 0 only. Return false to stop.
  std::function<bool(std::string_view text)> on_text;
};
void validate(const GenerateOptions& options);  // throws UsageError

struct Generation {
  std::string text;  // valid UTF-8
  // What was generated, without the prompt; with the end token, if there was one.
  std::vector<TokenId> tokens;
  std::string stop_reason;  // "end", "stop", "length", "callback"
};

struct GenerationStatistics {
  int64_t prompt_tokens = 0, generated_tokens = 0;
  // Without each row's first token, which comes from the prompt's forward.
  int64_t decoded_tokens = 0;
  double prompt_seconds = 0, generation_seconds = 0;
  double tokens_per_second() const {  // of decoding alone
    return generation_seconds > 0 ? static_cast<double>(decoded_tokens) / generation_seconds : 0;
  }
};

struct Generations {
  std::vector<Generation> rows;  // one per prompt
  GenerationStatistics statistics;
};

/// Continues each prompt, all in one batch; each row gives what it gives alone. Row r samples with
/// seed + r. Throws Error for an empty prompt, when prompt and max_tokens exceed the context
/// length, and for logits that choose no token, saying what makes them so.
Generations generate(LanguageModel& model, std::span<const std::vector<TokenId>> prompts,
                     const GenerateOptions& options = {});
/// One prompt.
Generations generate(LanguageModel& model, std::string_view prompt,
                     const GenerateOptions& options = {}, bool chat = false);

}  // namespace vyx::models
