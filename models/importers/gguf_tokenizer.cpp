#include "models/importers/gguf_tokenizer.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <unordered_map>
#include <vector>

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

/// The name of the pre-tokenizer; throws Error for a file that has none.
std::string pre_tokenizer_name(const Gguf& gguf) {
  constexpr const char* kKey = "tokenizer.ggml.pre";
  const bool has_key = gguf.find(kKey) != nullptr;
  const std::string name = has_key ? gguf.string(kKey) : "default";
  if (name == "default")
    fail(
        "{}: found {}, expected the name of the pre-tokenizer; the file is older than such names, "
        "or of a converter that did not know the model: convert the model again",
        gguf.source(), has_key ? "tokenizer.ggml.pre = \"default\"" : "no key tokenizer.ggml.pre");
  return name;
}

Json pre_tokenizer(const Gguf& gguf) {
  const std::string name = pre_tokenizer_name(gguf);
  if (name == "smollm")
    return sequence({{"type", "Digits"}, {"individual_digits", true}}, byte_level(true));
  if (name == "gpt-2" || name == "gpt2") return byte_level(true);
  if (is_llama3_tokenizer(gguf) || name == "smaug-bpe")
    return sequence(split(kLlama3Words), byte_level(false));
  if (name == "qwen2") return sequence(split(kQwen2Words), byte_level(false));
  fail(
      "{}: found tokenizer.ggml.pre = {}, expected smollm, gpt-2, llama-bpe, smaug-bpe or qwen2; "
      "vyx has no "
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

constexpr int64_t kNormal = 1, kControl = 3, kUserDefined = 4;

/// The type of each token, as llama.cpp numbers them.
std::vector<int64_t> token_types(const Gguf& gguf, size_t tokens) {
  constexpr const char* kKey = "tokenizer.ggml.token_type";
  if (!gguf.find(kKey)) return std::vector<int64_t>(tokens, kNormal);
  std::vector<int64_t> types = gguf.integers(kKey);
  check_size(gguf, kKey, types.size(), tokens);
  for (size_t id = 0; id < types.size(); ++id)
    if (types[id] < 1 || types[id] > 6)
      fail("{}: {}[{}] = {}, expected 1 to 6", gguf.source(), kKey, id, types[id]);
  return types;
}

}  // namespace

bool is_llama3_tokenizer(const Gguf& gguf) {
  if (!gguf.find("tokenizer.ggml.pre")) return false;
  const std::string name = gguf.string("tokenizer.ggml.pre");
  return name == "llama-bpe" || name == "llama3" || name == "llama-v3";
}

TokenKind token_kind(const Gguf& gguf, std::string_view token) {
  if (!gguf.find("tokenizer.ggml.tokens")) return TokenKind::none;
  const auto& tokens = gguf.array<std::string>("tokenizer.ggml.tokens");
  const auto found = std::find(tokens.begin(), tokens.end(), token);
  if (found == tokens.end()) return TokenKind::none;
  const auto id = static_cast<size_t>(found - tokens.begin());
  return token_types(gguf, tokens.size())[id] == kControl ? TokenKind::control : TokenKind::other;
}

std::string tokenizer_json_from_gguf(const Gguf& gguf, std::span<const std::string_view> control) {
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
  std::vector<int64_t> types = token_types(gguf, tokens.size());
  for (const std::string_view token : control)
    if (const auto found = ids.find(token); found != ids.end()) types[found->second] = kControl;
  for (size_t id = 0; id < types.size(); ++id) {
    if (types[id] != kControl && types[id] != kUserDefined) continue;
    added.push_back({{"id", id},
                     {"content", tokens[id]},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", types[id] == kControl}});
  }
  if (gguf.find("tokenizer.ggml.scores"))
    check_size(gguf, "tokenizer.ggml.scores", gguf.numbers("tokenizer.ggml.scores").size(),
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

  return Json{{"version", "1.0"},
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
                {"ignore_merges", is_llama3_tokenizer(gguf)},
                {"vocab", std::move(vocabulary)},
                {"merges", std::move(pairs)}}}}
      .dump();
}

}  // namespace vyx::models
