#include "models/architectures/decoder_spec.h"

#include <fmt/ranges.h>

#include <array>
#include <cmath>
#include <span>
#include <string>

#include "core/base/error.h"
#include "core/base/text.h"

namespace vyx::models {
namespace {

// Limits far beyond any model, which keep products of two of them within int64.
constexpr int64_t kMaxLayers = 4096, kMaxWidth = 1 << 20, kMaxVocabulary = 1 << 24,
                  kMaxTokens = 1 << 30;

// Names in config.json, in the order of the enumerators.
constexpr std::array<const char*, 2> kNorms{"rms", "layer"};
constexpr std::array<const char*, 4> kPlacements{"before", "after", "around", "parallel"};
constexpr std::array<const char*, 3> kQueryKeyNorms{"none", "per_head", "whole"};
constexpr std::array<const char*, 3> kActivations{"silu", "gelu", "gelu_pytorch_tanh"};

std::span<const char* const> names_of(NormKind) {
  return kNorms;
}
std::span<const char* const> names_of(NormPlacement) {
  return kPlacements;
}
std::span<const char* const> names_of(QueryKeyNorm) {
  return kQueryKeyNorms;
}
std::span<const char* const> names_of(Activation) {
  return kActivations;
}

/// Writes what has another value than its default.
struct OptionWriter {
  Json& json;

  template <class Value>
  void operator()(const char* key, const Value& value, const Value& otherwise) const {
    if (value == otherwise) return;
    if constexpr (std::is_enum_v<Value>) {
      json[key] = names_of(value)[static_cast<size_t>(value)];
    } else {
      json[key] = value;
    }
  }
};

/// Reads what is there.
struct OptionReader {
  const Json& json;
  std::string_view source;

  template <class Value>
  void operator()(const char* key, Value& value, const Value&) const {
    if (!json.contains(key)) return;
    if constexpr (std::is_enum_v<Value>) {
      const std::string name = json_string(json, key, source);
      const auto names = names_of(value);
      for (size_t i = 0; i < names.size(); ++i) {
        if (name == names[i]) {
          value = static_cast<Value>(i);
          return;
        }
      }
      fail("{}: found {} = {}, expected one of {}", source, key, quote(name),
           fmt::join(names, ", "));
    } else if constexpr (std::is_same_v<Value, bool>) {
      value = json_bool(json, key, source);
    } else if constexpr (std::is_same_v<Value, int64_t>) {
      value = json_integer(json, key, source, BlockSpec::kNoRotary, kMaxTokens);
    } else {
      value = json_number(json, key, source);
    }
  }
};

template <class Spec, class Visit>
void visit_options(Spec& spec, const Visit& visit) {
  static const DecoderSpec kDefault;
  visit("norm", spec.norm, kDefault.norm);
  visit("norm_placement", spec.norm_placement, kDefault.norm_placement);
  visit("attention_bias", spec.attention.input_bias, false);
  visit("attention_output_bias", spec.attention.output_bias, false);
  visit("query_key_norm", spec.attention.query_key_norm, QueryKeyNorm::none);
  visit("attn_logit_softcapping", spec.attention.score_cap, kDefault.attention.score_cap);
  visit("mlp_gated", spec.mlp.gated, kDefault.mlp.gated);
  visit("hidden_act", spec.mlp.activation, kDefault.mlp.activation);
  visit("mlp_bias", spec.mlp.bias, false);
  visit("embedding_multiplier", spec.embedding_scale, kDefault.embedding_scale);
  visit("residual_multiplier", spec.residual_scale, kDefault.residual_scale);
  visit("logits_scaling", spec.logit_divisor, kDefault.logit_divisor);
  visit("final_logit_softcapping", spec.logit_cap, kDefault.logit_cap);
}

Json to_json(const RotarySpec& rotary) {
  Json json{{"base", rotary.base}, {"width", rotary.width}};
  OptionWriter{json}("linear_factor", rotary.linear_factor, 1.0);
  if (const auto& scaling = rotary.llama3)
    json["llama3"] = {{"factor", scaling->factor},
                      {"low_freq_factor", scaling->low_factor},
                      {"high_freq_factor", scaling->high_factor},
                      {"original_max_position_embeddings", scaling->original_context}};
  return json;
}

RotarySpec rotary_from_json(const Json& json, std::string_view source) {
  RotarySpec rotary{.base = json_number(json, "base", source),
                    .width = json_integer(json, "width", source, 1, kMaxWidth)};
  OptionReader{json, source}("linear_factor", rotary.linear_factor, 1.0);
  if (const auto scaling = json.find("llama3"); scaling != json.end())
    rotary.llama3 = {.factor = json_number(*scaling, "factor", source),
                     .low_factor = json_number(*scaling, "low_freq_factor", source),
                     .high_factor = json_number(*scaling, "high_freq_factor", source),
                     .original_context = json_integer(*scaling, "original_max_position_embeddings",
                                                      source, 1, kMaxTokens)};
  return rotary;
}

Json to_json(const BlockSpec& block) {
  Json json = Json::object();
  OptionWriter{json}("window", block.window, int64_t{0});
  OptionWriter{json}("rotary", block.rotary, int64_t{0});
  if (block.attention_scale) json["attention_scale"] = *block.attention_scale;
  return json;
}

BlockSpec block_from_json(const Json& json, std::string_view source) {
  BlockSpec block;
  OptionReader{json, source}("window", block.window, int64_t{0});
  OptionReader{json, source}("rotary", block.rotary, int64_t{0});
  if (json.contains("attention_scale"))
    block.attention_scale = json_number(json, "attention_scale", source);
  return block;
}

template <class Item, class Read>
std::vector<Item> list_from_json(const Json& config, const char* key, std::string_view source,
                                 Read&& read) {
  const Json& list = config[key];
  if (!list.is_array()) fail("{}: {} is {}, expected an array", source, key, list.type_name());
  std::vector<Item> items;
  for (const Json& item : list) {
    if (!item.is_object()) fail("{}: {} holds {}, expected objects", source, key, item.type_name());
    items.push_back(read(item, source));
  }
  return items;
}

void check_range(std::string_view source, const char* what, int64_t value, int64_t max) {
  if (value < 1 || value > max)
    fail("{}: found {} = {}, expected 1 to {}; the file is damaged or no language model", source,
         what, value, max);
}

void check_positive(std::string_view source, const char* what, double value) {
  if (!std::isfinite(value) || value <= 0)
    fail("{}: found {} = {}, expected a positive number", source, what, value);
}

/// A cap: 0 for none.
void check_cap(std::string_view source, const char* what, double value) {
  if (value != 0) check_positive(source, what, value);
}

void validate(const RotarySpec& rotary, int64_t head_dim, std::string_view source) {
  check_positive(source, "rope_base", rotary.base);
  check_positive(source, "a rotary linear_factor", rotary.linear_factor);
  if (rotary.width < 1 || rotary.width % 2 != 0 || rotary.width > head_dim)
    fail(
        "{}: found a rotary width of {} and head_dim = {}, expected an even number up to it, for "
        "rotary positions turn pairs",
        source, rotary.width, head_dim);
  if (const auto& scaling = rotary.llama3) {
    check_positive(source, "a rotary factor", scaling->factor);
    check_positive(source, "low_freq_factor", scaling->low_factor);
    check_range(source, "original_max_position_embeddings", scaling->original_context, kMaxTokens);
    if (!(scaling->high_factor > scaling->low_factor))
      fail("{}: found high_freq_factor = {}, expected more than low_freq_factor = {}", source,
           scaling->high_factor, scaling->low_factor);
  }
}

}  // namespace

void validate(const DecoderSpec& spec, std::string_view source) {
  check_range(source, "layers", spec.layers(), kMaxLayers);
  check_range(source, "d_model", spec.d_model, kMaxWidth);
  check_range(source, "d_ff", spec.mlp.width, kMaxWidth);
  const AttentionSpec& attention = spec.attention;
  check_range(source, "heads", attention.heads, kMaxWidth);
  check_range(source, "kv_heads", attention.kv_heads, attention.heads);
  check_range(source, "head_dim", attention.head_dim, kMaxWidth);
  check_range(source, "vocabulary", spec.vocabulary, kMaxVocabulary);
  if (attention.heads % attention.kv_heads != 0)
    fail("{}: found {} heads and {} key-value heads, expected a multiple", source, attention.heads,
         attention.kv_heads);
  check_positive(source, "norm_epsilon", spec.norm_epsilon);
  check_positive(source, "embedding_scale", spec.embedding_scale);
  check_positive(source, "residual_scale", spec.residual_scale);
  check_positive(source, "logit_divisor", spec.logit_divisor);
  check_cap(source, "score_cap", attention.score_cap);
  check_cap(source, "logit_cap", spec.logit_cap);
  for (const RotarySpec& rotary : spec.rotary) validate(rotary, attention.head_dim, source);
  for (const BlockSpec& block : spec.blocks) {
    if (block.window < 0 || block.window > kMaxTokens)
      fail("{}: found a window of {} tokens, expected 0 to {}", source, block.window, kMaxTokens);
    if (block.rotary < BlockSpec::kNoRotary ||
        block.rotary >= static_cast<int64_t>(spec.rotary.size()))
      fail("{}: found a block with rotary positions {}, expected one of {} kinds, or {} for none",
           source, block.rotary, spec.rotary.size(), BlockSpec::kNoRotary);
    if (block.attention_scale) check_positive(source, "attention_scale", *block.attention_scale);
  }
}

void add_to_json(const DecoderSpec& spec, Json& config) {
  config["num_hidden_layers"] = spec.layers();
  config["hidden_size"] = spec.d_model;
  config["intermediate_size"] = spec.mlp.width;
  config["num_attention_heads"] = spec.attention.heads;
  config["num_key_value_heads"] = spec.attention.kv_heads;
  config["head_dim"] = spec.attention.head_dim;
  config["vocab_size"] = spec.vocabulary;
  config["rms_norm_eps"] = spec.norm_epsilon;
  config["tie_word_embeddings"] = spec.tied_head;
  // One kind of rotary positions, of whole heads in all blocks, is the base alone.
  if (!spec.rotary.empty()) config["rope_theta"] = spec.rotary[0].base;
  const bool is_plain =
      spec.rotary.size() == 1 &&
      spec.rotary[0] == RotarySpec{.base = spec.rotary[0].base, .width = spec.attention.head_dim};
  if (!is_plain) {
    config["rotary"] = Json::array();
    for (const RotarySpec& rotary : spec.rotary) config["rotary"].push_back(to_json(rotary));
  }
  if (spec.blocks != std::vector<BlockSpec>(spec.blocks.size())) {
    config["blocks"] = Json::array();
    for (const BlockSpec& block : spec.blocks) config["blocks"].push_back(to_json(block));
  }
  visit_options(spec, OptionWriter{config});
}

DecoderSpec decoder_spec_from_json(const Json& config, std::string_view source) {
  const auto size = [&](const char* key, int64_t max) {
    return json_integer(config, key, source, 1, max);
  };
  DecoderSpec spec{
      .d_model = size("hidden_size", kMaxWidth),
      .vocabulary = size("vocab_size", kMaxVocabulary),
      .blocks = std::vector<BlockSpec>(static_cast<size_t>(size("num_hidden_layers", kMaxLayers))),
      .norm_epsilon = json_number(config, "rms_norm_eps", source),
      .attention = {.heads = size("num_attention_heads", kMaxWidth),
                    .kv_heads = size("num_key_value_heads", kMaxWidth),
                    .head_dim = size("head_dim", kMaxWidth)},
      .mlp = {.width = size("intermediate_size", kMaxWidth)},
      .tied_head = json_bool(config, "tie_word_embeddings", source)};
  if (config.contains("rotary")) {
    spec.rotary = list_from_json<RotarySpec>(config, "rotary", source, rotary_from_json);
  } else {
    spec.rotary = {
        {.base = json_number(config, "rope_theta", source), .width = spec.attention.head_dim}};
  }
  if (config.contains("blocks")) {
    auto blocks = list_from_json<BlockSpec>(config, "blocks", source, block_from_json);
    if (blocks.size() != spec.blocks.size())
      fail("{}: found {} blocks, expected num_hidden_layers = {}", source, blocks.size(),
           spec.blocks.size());
    spec.blocks = std::move(blocks);
  }
  visit_options(spec, OptionReader{config, source});
  validate(spec, source);
  return spec;
}

}  // namespace vyx::models
