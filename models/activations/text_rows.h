// Text files as rows of a language model's tokens, to measure on.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "models/language_model/language_model.h"

namespace vyx::models {

struct TextRowsOptions {
  int64_t context = 256;    // tokens that see each other
  uint64_t max_tokens = 0;  // of all rows together; 0: all
};

/// The documents in rows of at most `context` tokens, cut as a harvest cuts them, each with the
/// model's begin token where its prompts have one. Throws UsageError for a context that the model
/// has not, Error for files that cannot be read or hold no text.
std::vector<std::vector<TokenId>> read_text_rows(const LanguageModel& model,
                                                 const std::vector<std::string>& files,
                                                 const TextRowsOptions& options);

}  // namespace vyx::models
