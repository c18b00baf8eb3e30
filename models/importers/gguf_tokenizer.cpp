#include "models/importers/gguf_tokenizer.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <unordered_map>

#include "core/base/error.h"
#include "core/base/json_guard.h"
#include "core/base/text.h"
#include "core/base/utf8.h"

namespace vyx::models {
namespace {

// How texts are split into words, by the name that GGUF gives it
// (https://github.com/ggml-org/llama.cpp/blob/master/convert_hf_to_gguf.py) and as the models' own
// tokenizer.json says it.
constexpr const char* kLlama3Words =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|)"
    R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen2Words =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|)"
    R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

Json byte_level(bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", false},
          {"trim_offsets", true},
          {"use_regex", use_regex}};
}

Json sequence(Json first, Json second) {
  return {{"type", "Sequence"},
          {"pretokenizers", Json::array({std::move(first), std::move(second)})}};
}

Json split(const char* pattern) {
  return {{"type", "Split"},
          {"pattern", {{"Regex", pattern}}},
          {"behavior", "Isolated"},
          {"invert", false}};
}

Json pre_tokenizer(const Gguf& gguf) {
  const std::string name = gguf.string("tokenizer.ggml.pre");
  if (name == "smollm")
    return sequence({{"type", "Digits"}, {"individual_digits", true}}, byte_level(true));
  if (name == "gpt-2" || name == "gpt2") return byte_level(true);
  if (name == "llama-bpe") return sequence(split(kLlama3Words), byte_level(false));
  if (name == "qwen2") return sequence(split(kQwen2Words), byte_level(false));
  fail(
      "{}: found tokenizer.ggml.pre = {}, expected smollm, gpt-2, llama-bpe or qwen2; vyx has no "
      "other pre-tokenizer yet",
      gguf.source(), quote(name));
}

/// The array `key`, or Error saying that it is what a tokenizer needs.
template <class T>
const std::vector<T>& required_array(const Gguf& gguf, const char* key) {
  if (!gguf.find(key))
    fail("{}: the key {} is missing; the file has no tokenizer, convert the model again with it",
         gguf.source(), key);
  return gguf.array<T>(key);
}

void check_size(const Gguf& gguf, const char* key, size_t found, size_t tokens) {
  if (found != tokens)
    fail("{}: {} has {} elements, expected one for each of the {} tokens", gguf.source(), key,
         found, tokens);
}

}  // namespace

std::string tokenizer_json_from_gguf(const Gguf& gguf) {
  const std::string& source = gguf.source();
  if (!gguf.find("tokenizer.ggml.model"))
    fail(
        "{}: the key tokenizer.ggml.model is missing; the file has no tokenizer, convert the model "
        "again with it",
        source);
  if (const std::string kind = gguf.string("tokenizer.ggml.model"); kind != "gpt2")
    fail(
        "{}: found tokenizer.ggml.model = {}, expected gpt2 (byte-level BPE); vyx has no other "
        "tokenizer yet",
        source, quote(kind));

  const auto& tokens = required_array<std::string>(gguf, "tokenizer.ggml.tokens");
  std::unordered_map<std::string_view, size_t> ids;
  Json vocabulary = Json::object();
  for (size_t id = 0; id < tokens.size(); ++id) {
    if (!is_utf8(tokens[id]))
      fail("{}: tokenizer.ggml.tokens[{}] = {} is not UTF-8", source, id, quote(tokens[id]));
    if (const auto [known, is_new] = ids.emplace(tokens[id], id); !is_new)
      fail("{}: tokenizer.ggml.tokens {} and {} are both {}, expected each once", source,
           known->second, id, quote(tokens[id]));
    vocabulary[tokens[id]] = id;
  }

  Json added = Json::array();
  if (gguf.find("tokenizer.ggml.token_type")) {
    constexpr int32_t kControl = 3, kUserDefined = 4;
    const auto& types = gguf.array<int32_t>("tokenizer.ggml.token_type");
    check_size(gguf, "tokenizer.ggml.token_type", types.size(), tokens.size());
    for (size_t id = 0; id < types.size(); ++id) {
      if (types[id] < 1 || types[id] > 6)
        fail("{}: tokenizer.ggml.token_type[{}] = {}, expected 1 to 6", source, id, types[id]);
      if (types[id] != kControl && types[id] != kUserDefined) continue;
      added.push_back({{"id", id},
                       {"content", tokens[id]},
                       {"single_word", false},
                       {"lstrip", false},
                       {"rstrip", false},
                       {"normalized", false},
                       {"special", types[id] == kControl}});
    }
  }
  if (gguf.find("tokenizer.ggml.scores"))
    check_size(gguf, "tokenizer.ggml.scores", gguf.array<float>("tokenizer.ggml.scores").size(),
               tokens.size());

  const auto& merges = required_array<std::string>(gguf, "tokenizer.ggml.merges");
  Json pairs = Json::array();
  for (size_t i = 0; i < merges.size(); ++i) {
    const size_t space =
        merges[i].find(' ', 1);  // the first byte is the left token's, whatever it is
    if (space == std::string::npos || space + 1 == merges[i].size())
      fail("{}: tokenizer.ggml.merges[{}] = {}, expected two tokens with a space between", source,
           i, quote(merges[i]));
    const std::string left = merges[i].substr(0, space), right = merges[i].substr(space + 1);
    for (const std::string& token : {left, right, left + right}) {
      if (!ids.contains(token))
        fail(
            "{}: tokenizer.ggml.merges[{}] = {} needs the token {}, which is not in the vocabulary",
            source, i, quote(merges[i]), quote(token));
    }
    pairs.push_back({left, right});
  }

  return Json{
      {"version", "1.0"},
      {"truncation", nullptr},
      {"padding", nullptr},
      {"added_tokens", added},
      {"normalizer", nullptr},
      {"pre_tokenizer", pre_tokenizer(gguf)},
      {"post_processor", nullptr},
      {"decoder", byte_level(true)},
      {"model",
       {{"type", "BPE"},
        {"dropout", nullptr},
        {"unk_token", nullptr},
        {"continuing_subword_prefix", nullptr},
        {"end_of_word_suffix", nullptr},
        {"fuse_unk", false},
        {"byte_fallback", false},
        {"ignore_merges", gguf.string("tokenizer.ggml.pre") == "llama-bpe"},  // as Llama 3 has it
        {"vocab", std::move(vocabulary)},
        {"merges", std::move(pairs)}}}}
      .dump();
}

}  // namespace vyx::models
