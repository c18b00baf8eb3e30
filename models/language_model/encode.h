// Texts as the tokens that the model sees in use. Whatever is measured, harvested or learnt from is
// encoded here or by LanguageModel::encode_prompt, which is what generation sends.
#pragma once
#include <string_view>
#include <vector>

#include "models/language_model/language_model.h"

namespace vyx::models {

/// What a prompt, and any text of its own, begins with; -1 where the model's begin with nothing.
inline TokenId begin_token(const LanguageModel& model) {
  const TokenConfig& tokens = model.config().tokens;
  return tokens.add_bos ? tokens.bos : -1;
}

/// Text that stands behind other tokens, such as a reply: nothing is put before it, and
/// "<|im_end|>" in it is plain characters.
inline std::vector<TokenId> encode_text(const LanguageModel& model, std::string_view text) {
  return model.tokenizer().encode(text, {.special_tokens = false});
}

/// Tokens of encode_text() as a text of its own: behind the begin token, where there is one.
inline std::vector<TokenId> with_begin(const LanguageModel& model, std::vector<TokenId> tokens) {
  if (const TokenId begin = begin_token(model); begin >= 0) tokens.insert(tokens.begin(), begin);
  return tokens;
}

}  // namespace vyx::models
