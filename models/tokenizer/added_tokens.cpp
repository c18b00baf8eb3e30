#include "models/tokenizer/added_tokens.h"

#include <algorithm>
#include <limits>

#include "core/base/error.h"
#include "core/base/text.h"

namespace vyx::models {
namespace {

constexpr size_t kMaxContent = 1024;  // bytes; the time of a search grows with the longest token

unsigned char byte_at(std::string_view text, size_t at) {
  return static_cast<unsigned char>(text[at]);
}

}  // namespace

std::vector<AddedToken> read_added_tokens(const Json& list, std::string_view source) {
  if (!list.is_array()) fail("{}: added_tokens is {}, expected an array", source, list.type_name());
  std::vector<AddedToken> tokens;
  tokens.reserve(list.size());
  for (const Json& item : list) {
    if (!item.is_object())
      fail("{}: an added token is {}, expected an object", source, item.type_name());
    AddedToken token{.content = json_string(item, "content", source),
                     .id = static_cast<int32_t>(
                         json_integer(item, "id", source, 0, std::numeric_limits<int32_t>::max())),
                     .special = json_bool(item, "special", source),
                     .normalized = json_bool(item, "normalized", source)};
    if (token.content.empty()) fail("{}: the added token with id {} is empty", source, token.id);
    if (token.content.size() > kMaxContent) {
      fail("{}: the added token with id {} has {} bytes, expected at most {}", source, token.id,
           token.content.size(), kMaxContent);
    }
    if (token.content.find('\0') != std::string::npos) {
      fail("{}: the added token with id {} contains a NUL character", source, token.id);
    }
    for (const char* key : {"lstrip", "rstrip", "single_word"}) {
      if (json_bool(item, key, source))
        fail("{}: added token {} has {}, which is not supported", source, quote(token.content),
             key);
    }
    tokens.push_back(std::move(token));
  }
  return tokens;
}

AddedTokenMatcher::AddedTokenMatcher(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  std::sort(tokens_.begin(), tokens_.end(),
            [](const auto& a, const auto& b) { return a.content < b.content; });
  for (const AddedToken& token : tokens_) ++begins_[byte_at(token.content, 0) + 1];
  for (size_t byte = 0; byte < 256; ++byte) begins_[byte + 1] += begins_[byte];
}

std::optional<AddedTokenMatcher::Match> AddedTokenMatcher::find(std::string_view text,
                                                                size_t from) const {
  if (tokens_.empty()) return std::nullopt;
  for (; from < text.size(); ++from) {
    if (const AddedToken* token = longest_at(text.substr(from))) return Match{from, token};
  }
  return std::nullopt;
}

const AddedToken* AddedTokenMatcher::longest_at(std::string_view text) const {
  // The sorted list is walked as a trie: [low, high) are the tokens that begin as the text does,
  // for `depth` bytes.
  auto low = tokens_.begin() + begins_[byte_at(text, 0)],
       high = tokens_.begin() + begins_[byte_at(text, 0) + 1];
  const AddedToken* longest = nullptr;
  size_t depth = 1;
  while (low != high) {
    if (low->content.size() == depth) longest = &*low++;
    if (low == high || depth == text.size()) break;
    if (high - low == 1) {
      if (text.starts_with(low->content)) longest = &*low;
      break;
    }
    const unsigned char byte = byte_at(text, depth);
    low = std::partition_point(
        low, high, [&](const auto& token) { return byte_at(token.content, depth) < byte; });
    high = std::partition_point(
        low, high, [&](const auto& token) { return byte_at(token.content, depth) == byte; });
    ++depth;
  }
  return longest;
}

}  // namespace vyx::models
