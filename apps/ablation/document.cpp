#include "apps/ablation/document.h"

#include <toml++/toml.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <sstream>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/base/nearest.h"
#include "core/base/text.h"
#include "core/base/utf8.h"
#include "core/io/files.h"

namespace vyx::ablation {
namespace {

constexpr uint64_t kMaxBytes = 1u << 20;
constexpr int kMaxParts = 16;     // of a dotted key
constexpr int kMaxBrackets = 32;  // open at once
constexpr size_t kMaxIncludes = 64;

// Refuses what toml++ cannot bear: a dotted key of 500,000 parts becomes as many nested tables,
// which are destroyed by recursion. Looks at the text without strings and comments.
void check_depth(std::string_view text, const std::string& file) {
  int line = 1, brackets = 0, parts = 0;
  const auto refuse = [&](const char* what, int limit) {
    fail("{}:{}: found {} nested deeper than {}", file, line, what, limit);
  };
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '#') {
      i = std::min(text.find('\n', i), text.size()) - 1;
    } else if (c == '"' || c == '\'') {
      const std::string fence(text.substr(i, 3) == std::string(3, c) ? 3 : 1, c);
      size_t end = i + fence.size();
      while (end < text.size() && text.substr(end, fence.size()) != fence &&
             (fence.size() == 3 || text[end] != '\n'))
        end += c == '"' && text[end] == '\\' ? 2 : 1;
      end = std::min(end, text.size());
      line += static_cast<int>(std::count(text.begin() + i, text.begin() + end, '\n'));
      i = end + fence.size() - 1;
      if (end < text.size() && text[end] == '\n')
        --i;  // an unclosed string, which the parser refuses
    } else if (c == '\n' || c == '=' || c == ',') {
      line += c == '\n';
      parts = 0;
    } else if (c == '.') {
      if (++parts >= kMaxParts) refuse("keys", kMaxParts);
    } else if (c == '[' || c == '{') {
      if (++brackets > kMaxBrackets) refuse("values", kMaxBrackets);
    } else if (c == ']' || c == '}') {
      brackets = std::max(0, brackets - 1);
    }
  }
}

// The parser's messages quote the file.
std::string one_line(std::string_view text) {
  std::string line(text);
  std::replace_if(
      line.begin(), line.end(),
      [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }, ' ');
  return is_utf8(line) ? line : quote(line);
}

std::string pointer_to(const std::string& parent, std::string_view key) {
  return parent + "/" + nlohmann::detail::escape(std::string(key));
}

OrderedJson convert(const toml::node& node, const std::string& pointer, const std::string& file,
                    Document& document) {
  const auto line = node.source().begin.line;
  const std::string place = fmt::format("{}:{}", file, line);
  if (!pointer.empty()) document.places[pointer] = line > 0 ? place : file;
  if (const toml::table* table = node.as_table()) {
    std::vector<const toml::key*> keys;
    for (const auto& [key, value] : *table) keys.push_back(&key);
    const auto written = [](const toml::key* key) {
      return std::pair(key->source().begin.line, key->source().begin.column);
    };
    std::sort(keys.begin(), keys.end(),
              [&](const auto* a, const auto* b) { return written(a) < written(b); });
    OrderedJson object = OrderedJson::object();
    for (const toml::key* key : keys) {
      const std::string child = pointer_to(pointer, key->str());
      object[std::string(key->str())] = convert(*table->get(key->str()), child, file, document);
      document.places[child] = fmt::format("{}:{}", file, key->source().begin.line);
    }
    return object;
  }
  if (const toml::array* array = node.as_array()) {
    OrderedJson list = OrderedJson::array();
    for (const toml::node& element : *array)
      list.push_back(
          convert(element, pointer_to(pointer, std::to_string(list.size())), file, document));
    return list;
  }
  if (const auto* text = node.as_string()) return text->get();
  if (const auto* number = node.as_integer()) return number->get();
  if (const auto* flag = node.as_boolean()) return flag->get();
  if (const auto* number = node.as_floating_point()) {
    if (!std::isfinite(number->get()))
      fail("{}: found {}, expected a finite number", place, number->get());
    return number->get();
  }
  fail(
      "{}: found a date or a time, expected text, a number, true or false, a list or a table; put "
      "it in quotes",
      place);
}

void merge_values(OrderedJson& base, const OrderedJson& over) {
  if (!base.is_object() || !over.is_object()) {
    base = over;
    return;
  }
  for (const auto& [key, value] : over.items()) {
    if (base.contains(key))
      merge_values(base[key], value);
    else
      base[key] = value;
  }
}

void make_absolute(OrderedJson& files, const std::filesystem::path& folder) {
  if (!files.is_object()) return;
  for (auto& [key, value] : files.items())
    if (value.is_string()) value = (folder / value.get<std::string>()).lexically_normal().string();
}

class Reader {
 public:
  Document read(const std::filesystem::path& path) {
    std::error_code unknown;
    const auto canonical = std::filesystem::weakly_canonical(path, unknown);
    if (std::find(open_.begin(), open_.end(), canonical) != open_.end())
      fail("{}: includes itself; remove one include", path.string());
    if (++count_ > kMaxIncludes)
      fail("{}: found more than {} includes", path.string(), kMaxIncludes);
    open_.push_back(canonical);
    Document own = parse_toml(read_text_file(path, kMaxBytes), path.string());
    const auto folder = std::filesystem::absolute(path).parent_path();
    if (own.value.contains("files")) make_absolute(own.value["files"], folder);
    if (own.value.contains("variants") && own.value["variants"].is_object())
      for (auto& [name, variant] : own.value["variants"].items())
        if (variant.is_object() && variant.contains("files"))
          make_absolute(variant["files"], folder);

    Document result;
    if (own.value.contains("include")) {
      const OrderedJson include = own.value["include"];
      own.value.erase("include");
      const auto is_text = [](const OrderedJson& name) { return name.is_string(); };
      if (!include.is_array() || !std::all_of(include.begin(), include.end(), is_text))
        fail("{}: include: expected a list of files, such as [\"common.toml\"]",
             own.place("/include"));
      for (const OrderedJson& name : include)
        merge(result, read(path.parent_path() / name.get<std::string>()));
    }
    merge(result, own);
    open_.pop_back();
    return result;
  }

 private:
  std::vector<std::filesystem::path> open_;
  size_t count_ = 0;
};

std::vector<std::string> split(std::string_view path) {
  std::vector<std::string> parts(1);
  for (const char c : path) {
    if (c == '.')
      parts.emplace_back();
    else
      parts.back() += c;
  }
  return parts;
}

}  // namespace

std::string Document::place(std::string_view pointer) const {
  for (std::string at(pointer);; at.resize(at.rfind('/'))) {
    if (const auto found = places.find(at); found != places.end()) return found->second;
    if (at.find('/') == std::string::npos) break;
  }
  return places.empty() ? "the experiment"
                        : places.begin()->second.substr(0, places.begin()->second.rfind(':'));
}

Document parse_toml(std::string_view text, const std::string& file) {
  if (text.size() > kMaxBytes)
    fail("{}: found {} bytes, expected at most {}", file, text.size(), kMaxBytes);
  check_depth(text, file);
  Document document;
  try {
    const toml::table table = toml::parse(text, file);
    document.value = convert(table, "", file, document);
  } catch (const toml::parse_error& error) {
    fail("{}:{}: {}", file, error.source().begin.line, one_line(error.description()));
  }
  return document;
}

Document read_document(const std::filesystem::path& path) {
  return Reader().read(path);
}

void merge(Document& base, const Document& over) {
  merge_values(base.value, over.value);
  for (const auto& [pointer, place] : over.places) base.places[pointer] = place;
}

Document part_of(const Document& document, const std::string& pointer) {
  Document part;
  const OrderedJson::json_pointer at(pointer);
  if (document.value.contains(at)) part.value = document.value[at];
  for (const auto& [key, place] : document.places)
    if (key.starts_with(pointer + "/")) part.places[key.substr(pointer.size())] = place;
  return part;
}

void set_value(Document& document, const std::string& assignment) {
  const auto equals = assignment.find('=');
  if (equals == std::string::npos || equals == 0)
    throw UsageError(fmt::format("--set {}: expected KEY=VALUE", quote(assignment)));
  std::vector<std::string> parts = split(assignment.substr(0, equals));
  const std::string text = assignment.substr(equals + 1), place = "--set " + parts.back();
  if (parts.size() > static_cast<size_t>(kMaxParts))
    throw UsageError(fmt::format("{}: found more than {} parts", place, kMaxParts));
  if (parts.size() == 1) {
    std::vector<std::string> known;
    const char* home = nullptr;
    for (const char* table : {"files", "values", "grid"}) {
      if (!document.value.contains(table) || !document.value[table].is_object()) continue;
      for (const auto& [key, value] : document.value[table].items()) known.push_back(key);
      if (document.value[table].contains(parts[0])) home = table;
    }
    if (home == nullptr)
      throw UsageError(fmt::format("{}: nothing in files, values or grid has that name{}", place,
                                   did_you_mean(parts[0], known)));
    parts.insert(parts.begin(), home);
  }
  OrderedJson value = text;
  const bool file = parts.size() == 2 && parts[0] == "files";
  if (file) {
    value = std::filesystem::absolute(text).lexically_normal().string();
  } else {
    try {
      value = parse_toml("value = " + text, place).value.at("value");
    } catch (const Error&) {  // then it is text
    }
  }
  if (parts.size() == 2 && parts[0] == "grid" && !value.is_array())
    value = OrderedJson::array({value});

  Document over;
  std::string pointer;
  OrderedJson* at = &over.value;
  for (const std::string& part : parts) {
    pointer = pointer_to(pointer, part);
    at = &(*at)[part];
  }
  *at = std::move(value);
  over.places[pointer] = place;
  merge(document, over);
}

}  // namespace vyx::ablation
