#include "models/language_model/language_model_config.h"

#include <array>
#include <cmath>
#include <utility>

#include "core/base/error.h"
#include "core/base/json_guard.h"
#include "core/base/text.h"

namespace vyx::models {
namespace {

// Limits far beyond any model, which keep products of two of them within int64.
constexpr int64_t kMaxLayers = 4096, kMaxWidth = 1 << 20, kMaxTokens = 1 << 24,
                  kMaxContext = 1 << 30;

void check_range(std::string_view source, const char* what, int64_t value, int64_t max) {
  if (value < 1 || value > max)
    fail("{}: found {} = {}, expected 1 to {}; the file is damaged or no language model", source,
         what, value, max);
}

void check_positive(std::string_view source, const char* what, double value) {
  if (!std::isfinite(value) || value <= 0)
    fail("{}: found {} = {}, expected a positive number", source, what, value);
}

void check_token(std::string_view source, const char* what, int64_t token, int64_t vocabulary) {
  if (token >= vocabulary)
    fail("{}: found {} = {}, expected less than the vocabulary of {} tokens", source, what, token,
         vocabulary);
}

const Json& member(const Json& object, const char* key, std::string_view source) {
  if (!object.contains(key)) fail("{}: the key {} is missing; import the model again", source, key);
  return object[key];
}

}  // namespace

std::string to_json(const LanguageModelConfig& config) {
  const auto or_null = [](int64_t token) { return token < 0 ? Json(nullptr) : Json(token); };
  return Json{{"name", config.name},
              {"model_type", config.architecture},
              {"num_hidden_layers", config.layers},
              {"hidden_size", config.d_model},
              {"intermediate_size", config.d_ff},
              {"num_attention_heads", config.heads},
              {"num_key_value_heads", config.kv_heads},
              {"head_dim", config.head_dim},
              {"vocab_size", config.vocabulary},
              {"max_position_embeddings", config.context_length},
              {"rope_theta", config.rope_base},
              {"rms_norm_eps", config.norm_epsilon},
              {"tie_word_embeddings", config.tied_embeddings},
              {"dtype", config.dtype},
              {"block_path", config.block_path},
              {"chat_format", config.chat_format},
              {"bos_token_id", or_null(config.bos_token)},
              {"pad_token_id", or_null(config.pad_token)},
              {"add_bos_token", config.add_bos},
              {"eos_token_id", config.end_tokens},
              {"source_sha256", config.source_sha256}}
      .dump(2);
}

LanguageModelConfig config_from_json(std::string_view json, std::string_view source) {
  const Json root = parse_json(json, source);
  if (!root.is_object())
    fail("{}: found {}, expected the object of a config.json", source, root.type_name());
  const auto size = [&](const char* key, int64_t max) {
    return json_integer(root, key, source, 1, max);
  };
  const auto token = [&](const char* key) {
    return member(root, key, source).is_null() ? -1
                                               : json_integer(root, key, source, 0, kMaxTokens);
  };
  LanguageModelConfig config{
      .name = json_string(root, "name", source),
      .architecture = json_string(root, "model_type", source),
      .layers = size("num_hidden_layers", kMaxLayers),
      .d_model = size("hidden_size", kMaxWidth),
      .d_ff = size("intermediate_size", kMaxWidth),
      .heads = size("num_attention_heads", kMaxWidth),
      .kv_heads = size("num_key_value_heads", kMaxWidth),
      .head_dim = size("head_dim", kMaxWidth),
      .vocabulary = size("vocab_size", kMaxTokens),
      .context_length = size("max_position_embeddings", kMaxContext),
      .rope_base = json_number(root, "rope_theta", source),
      .norm_epsilon = json_number(root, "rms_norm_eps", source),
      .tied_embeddings = json_bool(root, "tie_word_embeddings", source),
      .dtype = json_string(root, "dtype", source),
      .block_path = json_string(root, "block_path", source),
      .chat_format = json_string(root, "chat_format", source),
      .bos_token = token("bos_token_id"),
      .pad_token = token("pad_token_id"),
      .add_bos = json_bool(root, "add_bos_token", source),
      .source_sha256 = json_string(root, "source_sha256", source),
  };
  const Json& ends = member(root, "eos_token_id", source);
  if (!ends.is_array())
    fail("{}: eos_token_id is {}, expected an array of tokens", source, ends.type_name());
  for (const Json& end : ends) {
    if (!end.is_number_unsigned() || end.get<uint64_t>() > uint64_t{kMaxTokens})
      fail("{}: eos_token_id holds {}, expected tokens", source, quote(end.dump()));
    config.end_tokens.push_back(end.get<int64_t>());
  }
  validate(config, source);
  return config;
}

void validate(const LanguageModelConfig& config, std::string_view source) {
  check_range(source, "layers", config.layers, kMaxLayers);
  check_range(source, "d_model", config.d_model, kMaxWidth);
  check_range(source, "d_ff", config.d_ff, kMaxWidth);
  check_range(source, "heads", config.heads, kMaxWidth);
  check_range(source, "kv_heads", config.kv_heads, config.heads);
  check_range(source, "head_dim", config.head_dim, kMaxWidth);
  check_range(source, "vocabulary", config.vocabulary, kMaxTokens);
  check_range(source, "context_length", config.context_length, kMaxContext);
  check_positive(source, "rope_base", config.rope_base);
  check_positive(source, "norm_epsilon", config.norm_epsilon);
  if (config.heads % config.kv_heads != 0)
    fail("{}: found {} heads and {} key-value heads, expected a multiple", source, config.heads,
         config.kv_heads);
  if (config.head_dim % 2 != 0)
    fail("{}: found head_dim = {}, expected an even number, for rotary positions turn pairs",
         source, config.head_dim);
  check_token(source, "bos_token", config.bos_token, config.vocabulary);
  check_token(source, "pad_token", config.pad_token, config.vocabulary);
  for (const int64_t end : config.end_tokens)
    check_token(source, "an end token", end, config.vocabulary);
  if (config.add_bos && config.bos_token < 0)
    fail("{}: prompts are to begin with bos_token, and there is none", source);
}

}  // namespace vyx::models
