// Documents from text files: what a harvest reads. Streamed: memory is bounded by the longest
// document.
#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/json_guard.h"
#include "core/io/line_reader.h"

namespace vyx::models {

enum class TextFormat {
  automatic,   // by name: .jsonl and .ndjson, packed or not, are JSON Lines, all others prose
  plain,       // any text: a file is one document, unless it is split (TextOptions::separator)
  json_lines,  // a document a line, {"text": "…"}
};

struct TextOptions {
  TextFormat format = TextFormat::automatic;
  std::string json_key = "text";  // of JSON Lines: the member that holds the text
  std::string separator;          // of plain text: a line that is just this ends a document ("%" in
                                  // fortunes); empty: none does
  // Of plain text: a longer document is cut behind the line that reaches this.
  uint64_t max_document_bytes = 1u << 20;
};

/// What was read, and what was not as text should be.
struct TextCounts {
  uint64_t documents = 0, bytes = 0;
  uint64_t empty = 0;             // documents of nothing but white space, left out
  uint64_t carriage_returns = 0;  // before a line end, left out
  uint64_t byte_order_marks = 0;  // at the start of a file, left out
  uint64_t nul_bytes = 0;         // left out
  // Sequences that are not UTF-8, replaced by U+FFFD (JSON Lines refuse them).
  uint64_t malformed = 0;

  friend bool operator==(const TextCounts&, const TextCounts&) = default;
};
Json to_json(const TextCounts& counts);
TextCounts text_counts_from_json(const Json& json, std::string_view source);

/// A place between two documents.
struct TextCursor {
  uint64_t file = 0, document = 0;  // the next document's, from 0
  TextCounts counts;                // of everything before it

  friend bool operator==(const TextCursor&, const TextCursor&) = default;
};

class TextSource {
 public:
  /// Throws Error for a file that cannot be read, is no regular file or no text (text_kind.h), and
  /// when there is none.
  /// Files are plain or gzip, read in order.
  explicit TextSource(std::vector<std::filesystem::path> files, TextOptions options = {});

  /// The next document, as well-formed UTF-8 that is not only white space; false at the end. Throws
  /// Error naming file and line.
  bool next(std::string& document);

  const TextCursor& cursor() const { return cursor_; }
  /// Goes on at a cursor of the same files. Reads that file up to there. Throws Error when it has
  /// not as many documents.
  void seek(const TextCursor& cursor);

  /// "stories.jsonl, document 12": the one that next() gave last.
  std::string where() const;
  /// [{"file", "bytes", "sha256"}, …]. Reads the files.
  Json provenance() const;
  const TextOptions& options() const { return options_; }

 private:
  bool read(std::string& document);
  bool read_plain(std::string& document);
  bool read_json_line(std::string& document);
  void append_clean(std::string_view text, std::string& document);
  void count_mark();
  bool is_json_lines(const std::filesystem::path& file) const;

  std::vector<std::filesystem::path> files_;
  TextOptions options_;
  TextCursor cursor_;
  std::optional<LineReader> reader_;  // of file cursor_.file, when it has been opened
};

}  // namespace vyx::models
