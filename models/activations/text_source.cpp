#include "models/activations/text_source.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "core/base/error.h"
#include "core/base/utf8.h"
#include "core/base/utf8_stream.h"
#include "core/io/digest.h"
#include "core/io/text_kind.h"

namespace vyx::models {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

constexpr std::pair<const char*, uint64_t TextCounts::*> kCounts[] = {
    {"documents", &TextCounts::documents},
    {"bytes", &TextCounts::bytes},
    {"empty", &TextCounts::empty},
    {"carriage_returns", &TextCounts::carriage_returns},
    {"byte_order_marks", &TextCounts::byte_order_marks},
    {"nul_bytes", &TextCounts::nul_bytes},
    {"malformed", &TextCounts::malformed}};

bool is_blank(std::string_view text) {
  return text.find_first_not_of(" \t\r\n\f\v") == std::string_view::npos;
}

}  // namespace

Json to_json(const TextCounts& counts) {
  Json json = Json::object();
  for (const auto& [name, member] : kCounts) json[name] = counts.*member;
  return json;
}

TextCounts text_counts_from_json(const Json& json, std::string_view source) {
  TextCounts counts;
  for (const auto& [name, member] : kCounts)
    counts.*member = static_cast<uint64_t>(
        json_integer(json, name, source, 0, std::numeric_limits<int64_t>::max()));
  return counts;
}

TextSource::TextSource(std::vector<std::filesystem::path> files, TextOptions options)
    : files_(std::move(files)), options_(std::move(options)) {
  if (files_.empty()) fail("there is no text; give at least one file");
  for (const auto& file : files_) MappedFile{file};  // all of them now, not after hours
}

bool TextSource::is_json_lines(const std::filesystem::path& file) const {
  if (options_.format != TextFormat::automatic) return options_.format == TextFormat::json_lines;
  std::filesystem::path name = file.filename();
  if (name.extension() == ".gz" || name.extension() == ".dz") name = name.stem();
  return name.extension() == ".jsonl" || name.extension() == ".ndjson";
}

bool TextSource::next(std::string& document) {
  for (; cursor_.file < files_.size(); ++cursor_.file, cursor_.document = 0) {
    while (read(document)) {
      ++cursor_.document;
      if (is_blank(document)) {
        ++cursor_.counts.empty;
        continue;
      }
      ++cursor_.counts.documents;
      cursor_.counts.bytes += document.size();
      return true;
    }
    reader_.reset();
  }
  return false;
}

void TextSource::seek(const TextCursor& cursor) {
  if (cursor.file > files_.size())
    fail("found a place in file {} of the text, expected at most {} files", cursor.file + 1,
         files_.size());
  reader_.reset();
  cursor_ = {.file = cursor.file, .document = 0, .counts = {}};
  std::string passed;
  for (; cursor_.document < cursor.document; ++cursor_.document) {
    if (cursor.file == files_.size() || !read(passed))
      fail("the text ends before document {} of file {}; it has changed since", cursor.document + 1,
           cursor.file + 1);
  }
  cursor_.counts = cursor.counts;
}

std::string TextSource::where() const {
  const auto& file = files_[std::min<size_t>(cursor_.file, files_.size() - 1)];
  return fmt::format("{}, document {}", file.string(), cursor_.document);
}

Json TextSource::provenance() const {
  Json list = Json::array();
  for (const auto& file : files_)
    list.push_back({{"file", valid_utf8(file.filename().string())},
                    {"bytes", std::filesystem::file_size(file)},
                    {"sha256", sha256_file(file)}});
  return list;
}

bool TextSource::read(std::string& document) {
  const std::filesystem::path& file = files_[cursor_.file];
  const bool json_lines = is_json_lines(file);
  if (!reader_) {
    reader_.emplace(file);
    if (!json_lines && options_.format == TextFormat::automatic)
      require_prose(reader_->start(), file);
  }
  document.clear();
  return json_lines ? read_json_line(document) : read_plain(document);
}

bool TextSource::read_plain(std::string& document) {
  std::string_view line;
  bool any = false;
  while (reader_->next(line)) {
    any = true;
    count_mark();
    if (!options_.separator.empty() && without_line_end(line) == options_.separator) break;
    append_clean(line, document);
    if (document.size() >= options_.max_document_bytes) break;
  }
  return any;
}

bool TextSource::read_json_line(std::string& document) {
  std::string_view line;
  do {
    if (!reader_->next(line)) return false;
    count_mark();
  } while (is_blank(line));
  const std::string where = fmt::format("{}:{}", reader_->path().string(), reader_->number());
  const bool is_array = line[line.find_first_not_of(" \t")] == '[';  // over several lines, even
  const Json json =
      is_array ? Json::array()
               : parse_json(without_line_end(line), where, {.max_bytes = LineReader::kMaxLine});
  if (!json.is_object())
    fail("{}: found {}, expected JSON Lines, one object {{\"{}\": \"…\"}} per line", where,
         json.type_name(), options_.json_key);
  append_clean(json_string(json, options_.json_key.c_str(), where), document);
  return true;
}

void TextSource::count_mark() {
  if (reader_->number() == 1 && reader_->had_mark()) ++cursor_.counts.byte_order_marks;
}

void TextSource::append_clean(std::string_view text, std::string& document) {
  size_t copied =
      0;  // everything before is in the document, or left out; runs of good text are copied whole
  for (size_t at = 0; at < text.size();) {
    const auto byte = static_cast<unsigned char>(text[at]);
    const bool carriage_return = byte == '\r' && text.substr(at + 1).starts_with('\n');
    const Utf8Step step =
        byte < 0x80 ? Utf8Step{.length = 1, .well_formed = true} : utf8_step(text.substr(at));
    if (byte != 0 && !carriage_return && step.well_formed) {
      at += step.length;
      continue;
    }
    document += text.substr(copied, at - copied);
    if (!step.well_formed) document += kReplacement;
    ++(byte == 0         ? cursor_.counts.nul_bytes
       : carriage_return ? cursor_.counts.carriage_returns
                         : cursor_.counts.malformed);
    copied = at += step.length;
  }
  document += text.substr(copied);
}

}  // namespace vyx::models
