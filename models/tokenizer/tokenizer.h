// A byte-level BPE tokenizer, read from the tokenizer.json that Hugging Face's `tokenizers` writes
// (the part of the format that byte-level BPE needs; anything else is refused by name). The
// importers make that JSON from their own sources.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace vyx::models {

using TokenId = int64_t;

struct EncodeOptions {
  /// Recognise special tokens ("<|im_start|>") in the text. False: they are plain characters.
  bool special_tokens = true;
};

class Tokenizer {
 public:
  /// `source` names the file in errors. Throws Error for a damaged or unsupported tokenizer.
  static Tokenizer from_json(std::string_view json, std::string_view source);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  /// Any bytes, valid UTF-8 or not; an ill-formed sequence (what Unicode shows as one U+FFFD) is a
  /// word of its own. decode(encode(text)) == text when bytes_without_token(text) is 0 and no Split
  /// of the file has the behavior Removed. Time is O(n log n) in the longest word. Thread-safe.
  /// Throws Error when the file's split pattern takes too long.
  std::vector<TokenId> encode(std::string_view text, const EncodeOptions& options = {}) const;

  /// How many bytes of `text` the vocabulary has no token for. encode() leaves them out, as
  /// `tokenizers` does (or puts the file's unk_token); callers should say so. SmolLM2 lacks 21 of
  /// the 256: 0xFF and U+0004, for example.
  int64_t bytes_without_token(std::string_view text) const;

  /// The bytes of the tokens, which need not be valid UTF-8. Throws Error for an id that is no
  /// token. Special tokens give their text, or nothing with `skip_special`.
  std::string decode(std::span<const TokenId> tokens, bool skip_special = false) const;

  /// The bytes of one token: not always whole characters (see core/base/utf8_stream.h).
  const std::string& bytes(TokenId token) const;

  /// One more than the largest id. (A model's embedding may have more rows: those ids are no
  /// tokens.)
  int64_t vocabulary_size() const;
  bool is_special(TokenId token) const;
  /// The id of a token given as it stands in the vocabulary or among the added tokens
  /// ("<|im_end|>").
  std::optional<TokenId> find(std::string_view token) const;

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<const Impl> impl);
  std::unique_ptr<const Impl> impl_;
};

}  // namespace vyx::models
