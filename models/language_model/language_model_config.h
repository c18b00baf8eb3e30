// What a language model is, beside its weights. Kept as the archive's extra file `config.json`,
// with Hugging Face's key names where Hugging Face has one.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "models/architectures/decoder_spec.h"
#include "models/tokenizer/chat_format.h"

namespace vyx::models {

/// What begins, pads and ends a prompt, and how chats are written.
struct TokenConfig {
  int64_t bos = -1, pad = -1;  // -1: none
  bool add_bos = false;        // a prompt begins with bos
  std::vector<int64_t> ends;   // generation stops at any of them
  ChatFormat chat_format;

  friend bool operator==(const TokenConfig&, const TokenConfig&) = default;
};

/// Where a model is from.
struct ModelProvenance {
  std::string name;    // "SmolLM2 135M Instruct", as its source calls it
  std::string sha256;  // of the file that it was imported from: the model's identity

  friend bool operator==(const ModelProvenance&, const ModelProvenance&) = default;
};

struct LanguageModelConfig {
  std::string architecture;                 // the family: "llama"
  std::string dtype = "float32";            // of the weights
  std::string block_path = "model.layers";  // block k is the module `{block_path}.{k}`
  int64_t context_length = 0;               // tokens; the longest that the model was trained on
  DecoderSpec spec;
  TokenConfig tokens;
  ModelProvenance provenance;

  friend bool operator==(const LanguageModelConfig&, const LanguageModelConfig&) = default;
};

/// Where the numbers of the weights' type end, for a message about some that are not finite:
/// "; float16 ends at 65,504: …", or "" for types that end nowhere near what models compute.
std::string_view range_hint(const LanguageModelConfig& config);

std::string to_json(const LanguageModelConfig& config);
/// Throws Error naming `source` for missing keys and impossible sizes.
LanguageModelConfig config_from_json(std::string_view json, std::string_view source);
/// Throws Error unless the spec's sizes fit each other, and tokens are in the vocabulary.
void validate(const LanguageModelConfig& config, std::string_view source);

}  // namespace vyx::models
