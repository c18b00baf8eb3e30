#include "core/io/records.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/base/text.h"
#include "core/base/utf8.h"
#include "core/io/line_reader.h"

namespace vyx {
namespace {

using Keys = std::initializer_list<const char*>;
using TakeRecord = std::function<void(const Json& record, const std::string& where)>;

constexpr uint64_t kMaxBytes = 64u << 20;  // of an array or a table, which are read whole

/// {"positive": …, "negative": …}
std::string example_of(Keys keys) {
  std::string text = "{";
  for (const char* key : keys) text += fmt::format("{}\"{}\": …", text == "{" ? "" : ", ", key);
  return text + "}";
}

/// The rows of a table, one by one.
class TableReader {
 public:
  TableReader(std::string_view text, char separator, std::string path)
      : rest_(text), separator_(separator), path_(std::move(path)) {}

  /// The next row that is not blank; nullopt at the end.
  std::optional<std::vector<std::string>> next() {
    while (!rest_.empty()) {
      line_ = next_line_;
      std::vector<std::string> fields = {field()};
      while (!rest_.empty() && rest_.front() == separator_) {
        rest_.remove_prefix(1);
        fields.push_back(field());
      }
      end_line();
      if (fields.size() > 1 || !fields[0].empty()) return fields;
    }
    return std::nullopt;
  }
  std::string where() const { return fmt::format("{}:{}", path_, line_); }

 private:
  std::string field() {
    if (!rest_.starts_with('"')) {
      const std::array ends = {separator_, '\n'};
      std::string_view text = rest_.substr(0, rest_.find_first_of(ends.data(), 0, ends.size()));
      rest_.remove_prefix(text.size());
      if (text.ends_with('\r') && !rest_.starts_with(separator_)) text.remove_suffix(1);
      return std::string(text);
    }
    std::string text;
    for (rest_.remove_prefix(1); !rest_.empty(); rest_.remove_prefix(1)) {
      if (rest_.front() == '"') {
        if (!rest_.starts_with("\"\"")) {
          rest_.remove_prefix(1);
          return text;
        }
        rest_.remove_prefix(1);
      }
      if (rest_.starts_with("\r\n")) rest_.remove_prefix(1);
      if (rest_.front() == '\n') ++next_line_;
      text += rest_.front();
    }
    fail("{}: found a quote that is not closed", where());
  }

  void end_line() {
    if (rest_.starts_with('\r')) rest_.remove_prefix(1);
    if (!rest_.empty() && rest_.front() != '\n')
      fail("{}: found {} behind a closed quote, expected the field's end", where(),
           quote(rest_.substr(0, 1)));
    if (!rest_.empty()) rest_.remove_prefix(1);
    ++next_line_;
  }

  std::string_view rest_;
  char separator_;
  std::string path_;
  uint64_t line_ = 1, next_line_ = 1;  // where the row began, and where the next one does
};

std::string read_whole(const std::filesystem::path& path) {
  std::string text;
  LineReader lines(path);
  for (std::string_view line; lines.next(line);) {
    if (text.size() + line.size() > kMaxBytes)
      fail(
          "{}: found more than {} bytes, expected at most as many of a file that is not JSON Lines",
          path.string(), kMaxBytes);
    text += line;
  }
  return text;
}

/// Whether `line` is a table's first line, which names each of the keys.
bool names_all(std::string_view line, char separator, Keys keys) {
  try {
    const auto names = TableReader(line, separator, "").next();
    return names && std::all_of(keys.begin(), keys.end(), [&](const char* key) {
             return std::find(names->begin(), names->end(), key) != names->end();
           });
  } catch (const Error&) {
    return false;
  }
}

void read_table(const std::filesystem::path& path, char separator, const TakeRecord& take) {
  const std::string text = read_whole(path);
  TableReader rows(text, separator, path.string());
  const std::vector<std::string> names = *rows.next();
  for (const std::string& name : names)
    if (std::count(names.begin(), names.end(), name) > 1)
      fail("{}: found the column {} twice, expected each once", rows.where(), quote(name));
  while (const auto fields = rows.next()) {
    if (fields->size() != names.size())
      fail(
          "{}: found {} fields, expected {}, as the first line names; a field with the separator "
          "in it stands in double quotes",
          rows.where(), fields->size(), names.size());
    Json record = Json::object();
    for (size_t i = 0; i < names.size(); ++i) {
      if (!is_utf8((*fields)[i]))
        fail("{}: found bytes that are not UTF-8; save the file as UTF-8", rows.where());
      record[names[i]] = (*fields)[i];
    }
    take(record, rows.where());
  }
}

void read_array(const std::filesystem::path& path, Keys keys, const TakeRecord& take) {
  const Json array = parse_json(read_whole(path), path.string());
  for (size_t i = 0; i < array.size(); ++i) {
    const std::string where = fmt::format("{}, item {}", path.string(), i + 1);
    if (!array[i].is_object())
      fail("{}: found {}, expected {}", where, array[i].type_name(), example_of(keys));
    take(array[i], where);
  }
}

void read_lines(const std::filesystem::path& path, Keys keys, const TakeRecord& take) {
  for_each_line(path, [&](std::string_view line, const std::string& where) {
    Json record;
    try {
      record = parse_json(line, where);
    } catch (const Error& error) {
      fail("{}; expected JSON Lines, one {} per line", error.what(), example_of(keys));
    }
    if (!record.is_object())
      fail("{}: found {}, expected {}", where, record.type_name(), example_of(keys));
    take(record, where);
  });
}

/// The first line that is not blank.
std::string first_line(const std::filesystem::path& path) {
  LineReader lines(path);
  for (std::string_view line; lines.next(line);) {
    line = without_line_end(line);
    if (line.find_first_not_of(" \t") != std::string_view::npos) return std::string(line);
  }
  return {};
}

}  // namespace

void for_each_record(const std::filesystem::path& path, Keys keys, const TakeRecord& take) {
  const std::string first = first_line(path);
  const size_t begin = std::min(first.find_first_not_of(" \t"), first.size());
  const char kind = begin < first.size() ? first[begin] : '{';
  if (kind == '[') return read_array(path, keys, take);
  if (kind == '{') return read_lines(path, keys, take);
  for (const char separator : {',', '\t', ';'})
    if (names_all(first, separator, keys)) return read_table(path, separator, take);
  fail(
      "{}: found {} in its first line, expected JSON Lines, one {} per line, or a table whose "
      "first line names {}",
      path.string(), quote(first), example_of(keys), fmt::join(keys, ", "));
}

}  // namespace vyx
