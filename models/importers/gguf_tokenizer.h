// GGUF's vocabulary as the tokenizer.json that models/tokenizer reads.
#pragma once
#include <span>
#include <string>
#include <string_view>

#include "core/formats/gguf.h"

namespace vyx::models {

/// Tokens of `control` are control tokens whatever the file says of their type. Throws Error for a
/// missing or damaged vocabulary (tokens, merges, types of different length, ids
/// out of range), and for a kind of tokenizer or pre-tokenizer that vyx has not got, by name.
std::string tokenizer_json_from_gguf(const Gguf& gguf,
                                     std::span<const std::string_view> control = {});

/// Whether the pre-tokenizer is Llama 3's own, whose texts begin with the begin token where a file
/// does not say, and whose words are looked up whole before they are merged.
bool is_llama3_tokenizer(const Gguf& gguf);

enum class TokenKind { none, control, other };  // none: not in the vocabulary
/// What the file says that a token is.
TokenKind token_kind(const Gguf& gguf, std::string_view token);

}  // namespace vyx::models
