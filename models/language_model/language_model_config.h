// What a language model is, beside its weights. Kept as the archive's extra file `config.json`,
// with Hugging Face's key names where Hugging Face has one.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace vyx::models {

struct LanguageModelConfig {
  std::string name;          // "SmolLM2 135M Instruct", as its source calls it
  std::string architecture;  // "llama"
  int64_t layers = 0, d_model = 0, d_ff = 0;
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
  int64_t vocabulary = 0;
  int64_t context_length = 0;  // tokens; the longest that the model was trained on
  double rope_base = 10000, norm_epsilon = 1e-5;
  bool tied_embeddings = false;
  std::string dtype = "float32";            // of the weights
  std::string block_path = "model.layers";  // block k is the module `{block_path}.{k}`
  std::string chat_format;                  // "chatml", or "" for none that vyx knows
  int64_t bos_token = -1, pad_token = -1;   // -1: none
  bool add_bos = false;                     // a prompt begins with bos_token
  std::vector<int64_t> end_tokens;          // generation stops at any of them
  std::string source_sha256;  // of the file that the model was imported from: the model's identity

  friend bool operator==(const LanguageModelConfig&, const LanguageModelConfig&) = default;
};

std::string to_json(const LanguageModelConfig& config);
/// Throws Error naming `source` for missing keys and impossible sizes.
LanguageModelConfig config_from_json(std::string_view json, std::string_view source);
/// Throws Error unless the sizes fit each other (heads divide, nothing is zero or absurd).
void validate(const LanguageModelConfig& config, std::string_view source);

}  // namespace vyx::models
