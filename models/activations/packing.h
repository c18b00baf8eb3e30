// Documents packed into rows of one length, so that a forward computes next to no padding. A row
// holds several documents, each a segment of its own (architectures/llama.cpp); one that does not
// fit goes on, as a new segment, in the next row.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "models/activations/text_source.h"
#include "models/tokenizer/tokenizer.h"

namespace vyx::models {

struct PackingOptions {
  int64_t context = 256;     // tokens per row
  TokenId begin_token = -1;  // put before each segment (a model's bos_token, when its prompts begin
                             // with it); -1: none
  TokenId pad_token = 0;
  // "<|im_end|>" in the text is that token; false: it is the plain characters.
  bool special_in_text = false;
};

struct PackedBatch {
  at::Tensor ids;       // [rows, context] int64
  at::Tensor segments;  // [rows, context] int64: 1, 2, … along a row, 0 for padding; undefined when
                        // each row is one whole segment
  at::Tensor special;  // [rows, context] bool: tokens that are not text; undefined: none
};

/// A place between two rows.
struct PackingCursor {
  TextCursor text;     // of the document that goes on, or of the next
  uint64_t token = 0;  // how many of its tokens are in earlier rows
  // Of earlier documents: left out, since the vocabulary cannot spell them.
  uint64_t bytes_without_token = 0;
};
Json to_json(const PackingCursor& cursor);
PackingCursor packing_cursor_from_json(const Json& json, std::string_view source);

class Packer {
 public:
  /// The tokenizer must outlive it. Throws Error for a context of less than two tokens.
  Packer(TextSource source, const Tokenizer& tokenizer, const PackingOptions& options);

  /// The next `rows` rows, fewer at the end of the text; nullopt when there is nothing left.
  std::optional<PackedBatch> next(int64_t rows);

  PackingCursor cursor() const;
  void seek(const PackingCursor& cursor);

  const TextSource& source() const { return source_; }

 private:
  bool next_document();
  int64_t fill_row(int64_t* ids, int64_t* segments);

  TextSource source_;
  const Tokenizer& tokenizer_;
  PackingOptions options_;

  std::string document_;
  std::vector<TokenId> tokens_;                // of document_
  size_t done_ = 0;                            // of them
  TextCursor document_cursor_;                 // of document_
  uint64_t dropped_ = 0, dropped_before_ = 0;  // bytes without token: with document_, without it
};

/// The text's segments as rows of tokens of their own, each of at most `context`, until there are
/// `max_tokens` in all.
std::vector<std::vector<TokenId>> segments_of(Packer& packer, uint64_t max_tokens);

}  // namespace vyx::models
