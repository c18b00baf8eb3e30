// Tokens that are recognised in the text itself, before it is cut into words: "<|im_start|>". The
// added_tokens part of tokenizer.json.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/json_guard.h"

namespace vyx::models {

struct AddedToken {
  std::string content;
  int32_t id = 0;
  // On request, decoding skips it and encoding takes it as plain text.
  bool special = false;
  bool normalized = false;  // looked for only in what the others leave
};

/// `list` is tokenizer.json's "added_tokens". Throws Error naming `source` and the token for what
/// is not supported.
std::vector<AddedToken> read_added_tokens(const Json& list, std::string_view source);

/// Finds tokens in a text: the leftmost, and of those that begin there the longest.
class AddedTokenMatcher {
 public:
  explicit AddedTokenMatcher(std::vector<AddedToken> tokens);

  struct Match {
    size_t begin;
    const AddedToken* token;
  };
  /// The first match at or after `from`.
  std::optional<Match> find(std::string_view text, size_t from) const;

 private:
  const AddedToken* longest_at(std::string_view text) const;

  // Sorted by content: those with a common beginning are neighbours.
  std::vector<AddedToken> tokens_;
  // Tokens whose first byte is b: [begins_[b], begins_[b + 1]).
  std::array<uint32_t, 257> begins_{};
};

}  // namespace vyx::models
