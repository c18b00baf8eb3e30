#include "core/io/text_kind.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "core/base/error.h"
#include "core/base/utf8.h"
#include "core/io/line_reader.h"

namespace vyx {
namespace {

using namespace std::literals;

constexpr size_t kLooked = 4096;  // bytes; as many are looked at

/// How a kind of file begins, what it is, and what to do.
struct Signature {
  std::string_view start, name, advice;
};

constexpr std::string_view kSaveAsUtf8 = "save it as UTF-8", kUnpack = "unpack it first",
                           kJsonLines =
                               "write its text as JSON Lines, one {\"text\": \"…\"} per line",
                           kNoText = "give a text file";

// UTF-32 begins as UTF-16 does, and stands before it.
constexpr std::array kSignatures = {
    Signature{"\xFF\xFE\0\0"sv, "UTF-32 text", kSaveAsUtf8},
    Signature{"\0\0\xFE\xFF"sv, "UTF-32 text", kSaveAsUtf8},
    Signature{"\xFF\xFE"sv, "UTF-16 text", kSaveAsUtf8},
    Signature{"\xFE\xFF"sv, "UTF-16 text", kSaveAsUtf8},
    Signature{"PAR1"sv, "a Parquet file", kJsonLines},
    Signature{"ARROW1"sv, "an Arrow file", kJsonLines},
    Signature{"SQLite format 3"sv, "an SQLite database", kJsonLines},
    Signature{"%PDF-"sv, "a PDF file", "take the text out of it first, as with pdftotext"},
    Signature{"PK\x03\x04"sv, "a zip archive", kUnpack},
    Signature{"\x1F\x8B"sv, "a gzip file inside of another one", kUnpack},
    Signature{"BZh"sv, "a bzip2 file", kUnpack},
    Signature{"\xFD"
              "7zXZ"sv,
              "an xz file", kUnpack},
    Signature{"\x28\xB5\x2F\xFD"sv, "a zstd file", kUnpack},
    Signature{"7z\xBC\xAF\x27\x1C"sv, "a 7z archive", kUnpack},
    Signature{"GGUF"sv, "a GGUF file", kNoText},
    Signature{"\x93NUMPY"sv, "a NumPy file", kNoText},
    Signature{"\x89PNG"sv, "a picture", kNoText},
    Signature{"\xFF\xD8\xFF"sv, "a picture", kNoText},
    Signature{"\x7F"
              "ELF"sv,
              "a program", kNoText}};

/// Whether nearly every other byte is zero, as in UTF-16 of a European language.
bool is_bare_utf16(std::string_view start) {
  if (start.size() < 16) return false;
  std::array<size_t, 2> zeros{};
  for (size_t i = 0; i < start.size(); ++i) zeros[i % 2] += start[i] == '\0' ? 1 : 0;
  const size_t half = start.size() / 2;
  return std::max(zeros[0], zeros[1]) * 10 > half * 8 && std::min(zeros[0], zeros[1]) * 10 < half;
}

/// Whether more than a tenth of the bytes are in no text: control characters, or not UTF-8.
bool is_binary(std::string_view start) {
  size_t strange = 0, seen = 0;
  for (std::string_view rest = start; !rest.empty();) {
    const Utf8Step step = utf8_step(rest);
    if (step.cut_off) break;
    const auto first = static_cast<unsigned char>(rest[0]);
    const bool control = first == 0x7F || (first < 0x20 && "\t\n\v\f\r\b\x1b"sv.find(rest[0]) ==
                                                               std::string_view::npos);
    if (!step.well_formed || control) strange += step.length;
    seen += step.length;
    rest.remove_prefix(step.length);
  }
  return seen >= 32 && strange * 10 > seen;
}

/// The first two characters of `text` that are no white space.
std::string_view first_two(std::string_view text, std::array<char, 2>& held) {
  size_t count = 0;
  for (const char c : text) {
    if (std::isspace(static_cast<unsigned char>(c)) != 0) continue;
    held[count++] = c;
    if (count == held.size()) break;
  }
  return {held.data(), count};
}

}  // namespace

void require_text(std::string_view start, const std::filesystem::path& path) {
  start = start.substr(0, kLooked);
  for (const auto& [bytes, name, advice] : kSignatures)
    if (start.starts_with(bytes))
      fail("{}: found {}, expected UTF-8 text; {}", path.string(), name, advice);
  if (is_bare_utf16(start))
    fail("{}: found UTF-16 text, expected UTF-8; {}", path.string(), kSaveAsUtf8);
  if (is_binary(start))
    fail("{}: found bytes that are no text, expected UTF-8; {}", path.string(), kNoText);
}

void require_prose(std::string_view start, const std::filesystem::path& path) {
  start = start.substr(0, kLooked);
  if (start.starts_with(kByteOrderMark)) start.remove_prefix(kByteOrderMark.size());
  std::string extension = path.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (extension == ".csv" || extension == ".tsv")
    fail("{}: found a table, expected prose; {}", path.string(), kJsonLines);
  std::array<char, 2> held{};
  const std::string_view two = first_two(start, held);
  if (two == "[{" || two == "[\"")
    fail("{}: found a JSON array, expected prose; {}", path.string(), kJsonLines);
  if (two == "{\"")
    fail("{}: found JSON, expected prose; JSON Lines are read from files named .jsonl",
         path.string());
}

std::string read_prose(const std::filesystem::path& path) {
  std::string text;
  LineReader lines(path);
  require_prose(lines.start(), path);
  for (std::string_view line; lines.next(line);) {
    if (!is_utf8(line))
      fail("{}:{}: found bytes that are not UTF-8; save the file as UTF-8", path.string(),
           lines.number());
    const bool has_end = line.ends_with('\n');
    text += without_line_end(line);
    if (has_end) text += '\n';
  }
  return text;
}

}  // namespace vyx
