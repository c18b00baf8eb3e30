// The lines of a text file, plain or gzip (RFC 1952; dictzip's .dz is gzip), as a stream: memory is
// bounded by the longest line that is allowed, whatever the file holds or unpacks to.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "core/io/files.h"

namespace vyx {

class LineReader {
 public:
  static constexpr uint64_t kMaxLine = 16u << 20;  // bytes

  /// Throws Error for anything but a regular file, and for one that is no text (text_kind.h).
  /// Whether it is gzip is read from its first bytes.
  explicit LineReader(const std::filesystem::path& path, uint64_t max_line = kMaxLine);
  LineReader(LineReader&&) noexcept;
  LineReader& operator=(LineReader&&) noexcept;
  ~LineReader();

  /// The next line, with its '\n' when it has one and without the file's byte order mark; false at
  /// the end of the file. `line` is valid
  /// until the next call. Throws Error naming file and line for one that is too long, and for gzip
  /// data that are damaged or cut off.
  bool next(std::string_view& line);
  uint64_t number() const { return number_; }  // of the line that next() gave last, from 1
  bool had_mark() const { return had_mark_; }  // whether line 1, once read, began with the mark
  const std::filesystem::path& path() const { return file_.path(); }
  std::string_view start() const;  // the first bytes, unpacked, before the first next()

 private:
  class Inflater;
  bool next_plain(std::string_view& line);
  bool next_inflated(std::string_view& line);
  [[noreturn]] void fail_too_long() const;

  MappedFile file_;
  uint64_t max_line_, number_ = 0, offset_ = 0;
  bool had_mark_ = false;
  std::unique_ptr<Inflater> inflater_;
};

/// `line` without "\n" or "\r\n".
std::string_view without_line_end(std::string_view line);

/// For files of one thing per line: calls `take` with each line that is not blank, without its end,
/// and with "file:line". Throws Error as LineReader, and for a line that is not UTF-8.
void for_each_line(
    const std::filesystem::path& path,
    const std::function<void(std::string_view line, const std::string& where)>& take);

}  // namespace vyx
