#include "apps/options/help.h"

#include <algorithm>

#include "core/base/display_width.h"

namespace vyx::apps {
namespace {

constexpr size_t kWidth = 100, kMaxLeft = 36;  // columns: in all, and of the left column

/// The words of `text` in lines of at most `width` columns; a line end in it stays.
std::vector<std::string> wrapped(std::string_view text, size_t width) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    lines.emplace_back();
    while (!line.empty()) {
      const std::string_view word = line.substr(0, line.find(' '));
      line.remove_prefix(std::min(line.size(), word.size() + 1));
      std::string& last = lines.back();
      if (last.empty())
        last = word;
      else if (display_width(last) + 1 + display_width(word) <= width)
        last.append(1, ' ').append(word);
      else
        lines.emplace_back(word);
    }
  }
  return lines;
}

struct Entry {
  std::string left, right;
};

Entry entry(const OptionRow& row) {
  Entry entry{row.letter == 0 ? "      " : fmt::format("  -{}, ", row.letter), row.help};
  entry.left += "--" + row.name + (row.unit.empty() ? "" : " " + row.unit);
  for (const OptionCondition& condition : row.conditions)
    entry.right += fmt::format(" ({})", to_text(condition));
  if (row.required) entry.right += " (required)";
  if (row.standard) entry.right += fmt::format(" (default: {})", *row.standard);
  return entry;
}

Entry entry(const ResultKey& key) {
  const std::string members =
      key.members.empty() ? "" : (key.help.empty() ? "" : ": ") + key.members;
  return {"  " + key.name, key.help + members};
}

/// Two columns; fmt pads by what a terminal shows, not by bytes.
std::string table(const std::vector<Entry>& entries, size_t left) {
  std::string text;
  for (const Entry& entry : entries) {
    const std::vector<std::string> lines = wrapped(entry.right, kWidth - left - 2);
    const bool below = display_width(entry.left) > left || lines.empty();
    if (below) text += entry.left + "\n";
    for (size_t i = 0; i < lines.size(); ++i)
      text += fmt::format("{:<{}}  {}\n", i == 0 && !below ? entry.left : "", left, lines[i]);
  }
  return text;
}

template <class Rows>
std::vector<Entry> entries_of(const Rows& rows) {
  std::vector<Entry> entries;
  for (const auto& row : rows) entries.push_back(entry(row));
  return entries;
}

size_t left_width(const std::vector<Entry>& entries) {
  size_t width = 0;
  for (const Entry& entry : entries)
    if (const size_t own = display_width(entry.left); own <= kMaxLeft) width = std::max(width, own);
  return width;
}

Json option_json(const OptionRow& row) {
  Json json{{"name", row.name},
            {"type", row.type},
            {"many", row.many},
            {"required", row.required},
            {"help", row.help}};
  if (!row.unit.empty()) json["value"] = row.unit;
  if (row.standard) json["default"] = *row.standard;
  if (row.is_path()) json["written"] = row.written;
  for (const OptionCondition& condition : row.conditions)
    json["effect"].push_back(to_json(condition));
  return json;
}

}  // namespace

std::string help_text(const Program& program, const std::vector<OptionGroup>& groups) {
  std::string text = fmt::format("usage: {} {}\n\n", program.name, program.usage);
  for (const std::string& line : wrapped(program.summary, kWidth)) text += line + "\n";
  text += fmt::format("\nexamples:\n{}\n", program.examples);
  std::vector<std::vector<Entry>> tables;
  size_t left = 0;
  for (const OptionGroup& group : groups)
    left = std::max(left, left_width(tables.emplace_back(entries_of(group.rows))));
  for (size_t i = 0; i < groups.size(); ++i)
    text += fmt::format("\n{}:\n{}", groups[i].title, table(tables[i], left));
  for (const ResultForm& form : program.results) {
    const std::vector<Entry> entries = entries_of(form.keys);
    text +=
        fmt::format("\nkeys of --json{} (?: not always there):\n{}",
                    form.when.empty() ? "" : ", " + form.when, table(entries, left_width(entries)));
  }
  return text;
}

Json help_json(const Program& program, const std::vector<OptionGroup>& groups) {
  Json options = Json::array(), results = Json::array();
  for (const OptionGroup& group : groups)
    for (const OptionRow& row : group.rows)
      if (row.name != "help" && row.name != "version") options.push_back(option_json(row));
  for (const auto& [when, keys] : program.results) {
    Json list = Json::array();
    for (const auto& [name, help, members] : keys)
      list.push_back({{"name", name}, {"help", help}, {"members", members}});
    results.push_back({{"when", when}, {"keys", list}});
  }
  return {{"name", program.name}, {"usage", program.usage},    {"summary", program.summary},
          {"options", options},   {"version", kResultVersion}, {"results", results}};
}

}  // namespace vyx::apps
