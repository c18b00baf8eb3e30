#include "models/language_model/language_model_config.h"

#include "core/base/error.h"
#include "core/base/json_guard.h"
#include "core/base/text.h"

namespace vyx::models {
namespace {

constexpr int64_t kMaxToken = 1 << 24, kMaxContext = 1 << 30;  // far beyond any model's

void check_token(std::string_view source, const char* what, int64_t token, int64_t vocabulary) {
  if (token >= vocabulary)
    fail("{}: found {} = {}, expected less than the vocabulary of {} tokens", source, what, token,
         vocabulary);
}

const Json& member(const Json& object, const char* key, std::string_view source) {
  if (!object.contains(key)) fail("{}: the key {} is missing; import the model again", source, key);
  return object[key];
}

void add_to_json(const TokenConfig& tokens, Json& config) {
  const auto or_null = [](int64_t token) { return token < 0 ? Json(nullptr) : Json(token); };
  config["bos_token_id"] = or_null(tokens.bos);
  config["pad_token_id"] = or_null(tokens.pad);
  config["add_bos_token"] = tokens.add_bos;
  config["eos_token_id"] = tokens.ends;
  config["chat_format"] = tokens.chat_format.name;
  if (tokens.chat_format.system) config["chat_system"] = *tokens.chat_format.system;
}

TokenConfig tokens_from_json(const Json& config, std::string_view source) {
  const auto token = [&](const char* key) {
    return member(config, key, source).is_null() ? -1
                                                 : json_integer(config, key, source, 0, kMaxToken);
  };
  TokenConfig tokens{.bos = token("bos_token_id"),
                     .pad = token("pad_token_id"),
                     .add_bos = json_bool(config, "add_bos_token", source),
                     .chat_format = {.name = json_string(config, "chat_format", source)}};
  if (config.contains("chat_system"))
    tokens.chat_format.system = json_string(config, "chat_system", source);
  const Json& ends = member(config, "eos_token_id", source);
  if (!ends.is_array())
    fail("{}: eos_token_id is {}, expected an array of tokens", source, ends.type_name());
  for (const Json& end : ends) {
    if (!end.is_number_unsigned() || end.get<uint64_t>() > uint64_t{kMaxToken})
      fail("{}: eos_token_id holds {}, expected tokens", source, quote(end.dump()));
    tokens.ends.push_back(end.get<int64_t>());
  }
  return tokens;
}

void validate(const TokenConfig& tokens, int64_t vocabulary, std::string_view source) {
  check_token(source, "bos_token", tokens.bos, vocabulary);
  check_token(source, "pad_token", tokens.pad, vocabulary);
  for (const int64_t end : tokens.ends) check_token(source, "an end token", end, vocabulary);
  if (tokens.add_bos && tokens.bos < 0)
    fail("{}: prompts are to begin with bos_token, and there is none", source);
}

}  // namespace

std::string_view range_hint(const LanguageModelConfig& config) {
  return config.dtype == "float16"
             ? "; float16 ends at 65,504: import the model with --dtype bfloat16 or float32"
             : "";
}

std::string to_json(const LanguageModelConfig& config) {
  Json json{{"name", config.provenance.name},
            {"source_sha256", config.provenance.sha256},
            {"model_type", config.architecture},
            {"max_position_embeddings", config.context_length},
            {"dtype", config.dtype},
            {"block_path", config.block_path}};
  add_to_json(config.spec, json);
  add_to_json(config.tokens, json);
  // Names come from files, in whatever bytes they have.
  return json.dump(2, ' ', false, Json::error_handler_t::replace);
}

LanguageModelConfig config_from_json(std::string_view json, std::string_view source) {
  const Json root = parse_json(json, source);
  if (!root.is_object())
    fail("{}: found {}, expected the object of a config.json", source, root.type_name());
  LanguageModelConfig config{
      .architecture = json_string(root, "model_type", source),
      .dtype = json_string(root, "dtype", source),
      .block_path = json_string(root, "block_path", source),
      .context_length = json_integer(root, "max_position_embeddings", source, 1, kMaxContext),
      .spec = decoder_spec_from_json(root, source),
      .tokens = tokens_from_json(root, source),
      .provenance = {.name = json_string(root, "name", source),
                     .sha256 = json_string(root, "source_sha256", source)}};
  validate(config, source);
  return config;
}

void validate(const LanguageModelConfig& config, std::string_view source) {
  validate(config.spec, source);
  if (config.context_length < 1 || config.context_length > kMaxContext)
    fail("{}: found context_length = {}, expected 1 to {}", source, config.context_length,
         kMaxContext);
  validate(config.tokens, config.spec.vocabulary, source);
}

}  // namespace vyx::models
