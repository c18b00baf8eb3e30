#include "core/io/line_reader.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <string>

#include "core/base/error.h"
#include "core/base/utf8.h"
#include "core/io/text_kind.h"

namespace vyx {
namespace {

constexpr size_t kChunk = 256u << 10;  // unpacked at a time

bool is_gzip(std::span<const std::byte> bytes) {
  return bytes.size() >= 2 && bytes[0] == std::byte{0x1f} && bytes[1] == std::byte{0x8b};
}

}  // namespace

/// Unpacks a mapped gzip file, member after member.
class LineReader::Inflater {
 public:
  explicit Inflater(const MappedFile& file) : path_(file.path()), rest_(file.bytes()) {
    constexpr int kGzipOnly = 16;
    if (const int result = inflateInit2(&stream_, kGzipOnly + MAX_WBITS); result != Z_OK)
      fail("{}: zlib cannot start ({})", path_.string(), zError(result));
  }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;
  ~Inflater() { inflateEnd(&stream_); }

  /// Appends some text to `buffer`; false at the end.
  bool unpack_more() {
    const size_t before = buffer.size();
    while (!done_ && buffer.size() == before) unpack_chunk();
    return buffer.size() > before;
  }

  std::string buffer;  // unpacked; lines are views into it
  size_t consumed = 0;

 private:
  void unpack_chunk() {
    const size_t before = buffer.size();
    buffer.resize(before + kChunk);
    const auto available =
        static_cast<uInt>(std::min<size_t>(rest_.size(), std::numeric_limits<uInt>::max()));
    stream_.next_in = reinterpret_cast<Bytef*>(
        const_cast<std::byte*>(rest_.data()));  // zlib does not write to it
    stream_.avail_in = available;
    stream_.next_out = reinterpret_cast<Bytef*>(buffer.data() + before);
    stream_.avail_out = kChunk;
    const int result = inflate(&stream_, Z_NO_FLUSH);
    rest_ = rest_.subspan(available - stream_.avail_in);
    buffer.resize(before + kChunk - stream_.avail_out);
    if (result == Z_STREAM_END) {
      end_member();
    } else if (result == Z_BUF_ERROR ||
               (result == Z_OK && rest_.empty() && stream_.avail_out > 0)) {
      fail("{}: found gzip data that end too early; the file is cut off", path_.string());
    } else if (result != Z_OK) {
      fail("{}: found damaged gzip data ({}); fetch the file again", path_.string(),
           stream_.msg ? stream_.msg : zError(result));
    }
  }

  void end_member() {
    const auto padding = std::find_if(rest_.begin(), rest_.end(),
                                      [](std::byte byte) { return byte != std::byte{0}; });
    if (padding == rest_.end()) {
      done_ = true;  // some tapes and tools pad with zeros
    } else if (is_gzip(rest_)) {
      inflateReset(&stream_);
    } else {
      fail("{}: found {} bytes after the gzip data that are not gzip, expected the end of the file",
           path_.string(), rest_.size());
    }
  }

  std::filesystem::path path_;
  std::span<const std::byte> rest_;  // of the file
  z_stream stream_ = {};
  bool done_ = false;
};

LineReader::LineReader(const std::filesystem::path& path, uint64_t max_line)
    : file_(path), max_line_(max_line) {
  if (is_gzip(file_.bytes())) {
    inflater_ = std::make_unique<Inflater>(file_);
    inflater_->unpack_more();
  }
  require_text(start(), path);
}
LineReader::LineReader(LineReader&&) noexcept = default;
LineReader& LineReader::operator=(LineReader&&) noexcept = default;
LineReader::~LineReader() = default;

std::string_view LineReader::start() const {
  if (inflater_) return inflater_->buffer;
  return {reinterpret_cast<const char*>(file_.bytes().data()), file_.bytes().size()};
}

bool LineReader::next(std::string_view& line) {
  const bool found = inflater_ ? next_inflated(line) : next_plain(line);
  if (!found) return false;
  ++number_;
  if (line.size() > max_line_) fail_too_long();
  if (number_ == 1 && line.starts_with(kByteOrderMark)) {
    had_mark_ = true;
    line.remove_prefix(kByteOrderMark.size());
  }
  return true;
}

bool LineReader::next_plain(std::string_view& line) {
  const std::string_view text(reinterpret_cast<const char*>(file_.bytes().data()),
                              file_.bytes().size());
  if (offset_ >= text.size()) return false;
  line = text.substr(offset_, max_line_ + 1);  // a huge file may have no line end
  if (const size_t end = line.find('\n'); end != std::string_view::npos)
    line = line.substr(0, end + 1);
  offset_ += line.size();
  return true;
}

bool LineReader::next_inflated(std::string_view& line) {
  std::string& buffer = inflater_->buffer;
  size_t& consumed = inflater_->consumed;
  for (size_t searched = consumed;;) {
    const size_t end = buffer.find('\n', searched);
    if (end != std::string::npos) {
      line = std::string_view(buffer).substr(consumed, end + 1 - consumed);
      consumed = end + 1;
      return true;
    }
    if (buffer.size() - consumed > max_line_) {
      ++number_;
      fail_too_long();
    }
    buffer.erase(0, consumed);
    consumed = 0;
    searched = buffer.size();
    if (!inflater_->unpack_more()) break;
  }
  if (buffer.empty()) return false;
  line = buffer;
  consumed = buffer.size();
  return true;
}

void LineReader::fail_too_long() const {
  fail("{}:{}: found a line of more than {} bytes; expected text with shorter lines",
       file_.path().string(), number_, max_line_);
}

std::string_view without_line_end(std::string_view line) {
  if (line.ends_with('\n')) line.remove_suffix(1);
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

void for_each_line(
    const std::filesystem::path& path,
    const std::function<void(std::string_view line, const std::string& where)>& take) {
  LineReader lines(path);
  for (std::string_view line; lines.next(line);) {
    line = without_line_end(line);
    if (line.find_first_not_of(" \t") == std::string_view::npos) continue;
    if (!is_utf8(line))
      fail("{}:{}: found bytes that are not UTF-8; save the file as UTF-8", path.string(),
           lines.number());
    take(line, fmt::format("{}:{}", path.string(), lines.number()));
  }
}

}  // namespace vyx
