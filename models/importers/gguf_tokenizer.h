// GGUF's vocabulary as the tokenizer.json that models/tokenizer reads.
#pragma once
#include <string>

#include "core/formats/gguf.h"

namespace vyx::models {

/// Throws Error for a missing or damaged vocabulary (tokens, merges, types of different length, ids
/// out of range), and for a kind of tokenizer or pre-tokenizer that vyx has not got, by name.
std::string tokenizer_json_from_gguf(const Gguf& gguf);

}  // namespace vyx::models
