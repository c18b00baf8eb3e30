#include "models/activations/packing.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "core/base/error.h"
#include "models/activations/row_filter.h"

namespace vyx::models {

Json to_json(const PackingCursor& cursor) {
  return {{"file", cursor.text.file},
          {"document", cursor.text.document},
          {"counts", to_json(cursor.text.counts)},
          {"token", cursor.token},
          {"bytes_without_token", cursor.bytes_without_token}};
}

PackingCursor packing_cursor_from_json(const Json& json, std::string_view source) {
  const auto number = [&](const char* key) {
    return static_cast<uint64_t>(
        json_integer(json, key, source, 0, std::numeric_limits<int64_t>::max()));
  };
  return {.text = {.file = number("file"),
                   .document = number("document"),
                   .counts = text_counts_from_json(json.value("counts", Json()), source)},
          .token = number("token"),
          .bytes_without_token = number("bytes_without_token")};
}

Packer::Packer(TextSource source, const Tokenizer& tokenizer, const PackingOptions& options)
    : source_(std::move(source)), tokenizer_(tokenizer), options_(options) {
  if (options.context < 2) fail("a context of {} tokens; expected at least 2", options.context);
}

bool Packer::next_document() {
  do {
    document_cursor_ = source_.cursor();
    dropped_before_ = dropped_;
    if (!source_.next(document_)) return false;
    dropped_ += static_cast<uint64_t>(tokenizer_.bytes_without_token(document_));
    tokens_ = tokenizer_.encode(document_, {.special_tokens = options_.special_in_text});
    done_ = 0;
  } while (tokens_.empty());
  return true;
}

/// Fills one row and returns how many segments it holds; 0: nothing is left.
int64_t Packer::fill_row(int64_t* ids, int64_t* segments) {
  const int64_t begin = options_.begin_token >= 0 ? 1 : 0;
  int64_t filled = 0, segment = 0;
  while (filled + begin < options_.context && (done_ < tokens_.size() || next_document())) {
    if (begin != 0) ids[filled] = options_.begin_token;
    const int64_t count =
        std::min(options_.context - filled - begin, static_cast<int64_t>(tokens_.size() - done_));
    std::copy_n(tokens_.begin() + static_cast<int64_t>(done_), count, ids + filled + begin);
    std::fill_n(segments + filled, begin + count, ++segment);
    done_ += static_cast<size_t>(count);
    filled += begin + count;
  }
  std::fill(ids + filled, ids + options_.context, options_.pad_token);
  std::fill(segments + filled, segments + options_.context, 0);
  return segment;
}

std::optional<PackedBatch> Packer::next(int64_t rows) {
  const int64_t context = options_.context;
  PackedBatch batch{.ids = at::empty({rows, context}, at::kLong),
                    .segments = at::empty({rows, context}, at::kLong),
                    .special = {}};
  auto* ids = batch.ids.mutable_data_ptr<int64_t>();
  auto* segments = batch.segments.mutable_data_ptr<int64_t>();
  int64_t filled = 0;
  bool whole = true;  // each row is one segment, without padding
  for (; filled < rows; ++filled) {
    int64_t* row_segments = segments + filled * context;
    if (fill_row(ids + filled * context, row_segments) == 0) break;
    whole &= row_segments[context - 1] == 1;
  }
  if (filled == 0) return std::nullopt;
  batch.ids = batch.ids.narrow(0, 0, filled);
  batch.segments = batch.segments.narrow(0, 0, filled);

  batch.special = facts_of(tokenizer_, batch.ids, batch.segments != 0).special;
  if (whole) batch.segments.reset();
  return batch;
}

PackingCursor Packer::cursor() const {
  if (done_ < tokens_.size())
    return {.text = document_cursor_, .token = done_, .bytes_without_token = dropped_before_};
  return {.text = source_.cursor(), .token = 0, .bytes_without_token = dropped_};
}

void Packer::seek(const PackingCursor& cursor) {
  source_.seek(cursor.text);
  dropped_ = cursor.bytes_without_token;
  tokens_.clear();
  done_ = 0;
  if (cursor.token == 0) return;
  if (!next_document() || cursor.token >= tokens_.size())
    fail("{}: found fewer than {} tokens where the text was left off; it has changed since",
         source_.where(), cursor.token + 1);
  done_ = cursor.token;
}

std::vector<std::vector<TokenId>> segments_of(Packer& packer, uint64_t max_tokens) {
  std::vector<std::vector<TokenId>> rows;
  uint64_t tokens = 0;
  while (tokens < max_tokens) {
    const auto packed = packer.next(1);
    if (!packed) break;
    const int64_t* ids = packed->ids.const_data_ptr<int64_t>();
    const int64_t* segments =
        packed->segments.defined() ? packed->segments.const_data_ptr<int64_t>() : nullptr;
    for (int64_t i = 0, last = 0; i < packed->ids.size(1) && tokens < max_tokens; ++i, ++tokens) {
      const int64_t segment = segments != nullptr ? segments[i] : 1;
      if (segment == 0) break;  // padding
      if (segment != last) rows.emplace_back();
      last = segment;
      rows.back().push_back(ids[i]);
    }
  }
  return rows;
}

}  // namespace vyx::models
