#include "apps/ablation/rows.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "apps/ablation/reference.h"
#include "core/base/error.h"
#include "core/base/text.h"
#include "core/report/csv.h"

namespace vyx::ablation {
namespace {

std::string members_of(const Json& json) {
  if (json.is_array()) return fmt::format("a list of {}", json.size());
  if (!json.is_object()) return quote(json.dump());
  std::string names;
  for (const auto& [key, value] : json.items()) names += (names.empty() ? "" : ", ") + key;
  return names.empty() ? "an empty object" : names;
}

const Json& member(const Json& json, std::string_view name, std::string_view path) {
  if (json.is_object() && json.contains(name)) return json.at(std::string(name));
  size_t index = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), index);
  if (json.is_array() && error == std::errc() && end == name.data() + name.size() &&
      index < json.size())
    return json[index];
  fail("{}: found no {}, expected one of: {}", path, quote(name), quote(members_of(json)));
}

// The first element whose member is `wanted`, as text or as a number.
const Json& matching(const Json& list, std::string_view condition, std::string_view path) {
  const auto equals = condition.find('=');
  if (equals == std::string_view::npos)
    fail("{}: found [{}], expected [MEMBER=VALUE]", path, condition);
  const std::string name(condition.substr(0, equals)), wanted(condition.substr(equals + 1));
  double number = 0;
  const bool numeric =
      std::from_chars(wanted.data(), wanted.data() + wanted.size(), number).ec == std::errc();
  if (list.is_array())
    for (const Json& element : list) {
      if (!element.is_object() || !element.contains(name)) continue;
      const Json& value = element[name];
      if (value.is_number() ? numeric && value.get<double>() == number : as_text(value) == wanted)
        return element;
    }
  fail("{}: found no element with {} = {} in {}", path, name, quote(wanted),
       quote(members_of(list)));
}

template <class Pairs>
const OrderedJson* find(const Pairs& pairs, const std::string& name) {
  const auto found = std::find_if(pairs.begin(), pairs.end(),
                                  [&](const auto& pair) { return pair.first == name; });
  return found == pairs.end() ? nullptr : &found->second;
}

std::string text_or_nothing(const OrderedJson* value) {
  return value == nullptr || value->is_null() ? "" : as_text(*value);
}

template <class Member>
std::vector<std::string> names_in(std::span<const Row> rows, Member member) {
  std::vector<std::string> names;
  for (const Row& row : rows)
    for (const auto& [name, value] : row.*member)
      if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  return names;
}

}  // namespace

const Json& select(const Json& json, std::string_view path) {
  const Json* at = &json;
  for (std::string_view rest = path; !rest.empty();) {
    const size_t end = std::min(rest.find_first_of(".["), rest.size());
    if (end > 0) at = &member(*at, rest.substr(0, end), path);
    rest.remove_prefix(end);
    while (rest.starts_with('[')) {
      const size_t close = rest.find(']');
      if (close == std::string_view::npos) fail("{}: found [ without ]", path);
      at = &matching(*at, rest.substr(1, close - 1), path);
      rest.remove_prefix(close + 1);
    }
    if (rest.starts_with('.')) rest.remove_prefix(1);
  }
  return *at;
}

Row row_of(const Plan& plan, size_t cell_index, const std::map<std::string, Json>& outputs) {
  const Cell& cell = plan.cells[cell_index];
  Row row{.cell = cell_index, .variant = cell.variant, .key = cell.key};
  try {
    for (const CellResult& result : cell.results) {
      const Json& value = select(outputs.at(result.step), result.path);
      if (value.is_structured())
        fail("results.{}: found {}, expected a number or text; go on with the path", result.name,
             quote(members_of(value)));
      row.results.emplace_back(result.name, OrderedJson(value));
    }
  } catch (const Error& error) {
    row.results.clear();
    row.error = error.what();
  }
  return row;
}

OrderedJson to_json(const Row& row) {
  OrderedJson json{{"cell", row.cell}};
  if (!row.variant.empty()) json["variant"] = row.variant;
  json["grid"] = OrderedJson::object();
  for (const auto& [name, value] : row.key) json["grid"][name] = value;
  if (!row.error.empty()) {
    json["error"] = row.error;
    return json;
  }
  json["results"] = OrderedJson::object();
  for (const auto& [name, value] : row.results) json["results"][name] = value;
  return json;
}

std::string to_jsonl(std::span<const Row> rows) {
  std::string text;
  for (const Row& row : rows)
    text += to_json(row).dump(-1, ' ', false, OrderedJson::error_handler_t::replace) + "\n";
  return text;
}

std::string to_csv(std::span<const Row> rows) {
  const auto keys = keys_of(rows), names = result_names_of(rows);
  const bool variants =
      std::any_of(rows.begin(), rows.end(), [](const Row& row) { return !row.variant.empty(); });
  std::vector<std::string> header{"cell"};
  if (variants) header.push_back("variant");
  header.insert(header.end(), keys.begin(), keys.end());
  header.insert(header.end(), names.begin(), names.end());
  header.push_back("error");
  std::string text = csv_record(header);
  for (const Row& row : rows) {
    std::vector<std::string> fields{std::to_string(row.cell)};
    if (variants) fields.push_back(row.variant);
    for (const std::string& key : keys) fields.push_back(text_or_nothing(find(row.key, key)));
    for (const std::string& name : names)
      fields.push_back(text_or_nothing(find(row.results, name)));
    fields.push_back(row.error);
    text += csv_record(fields);
  }
  return text;
}

double student_t(size_t degrees_of_freedom) {
  constexpr std::array<double, 30> kQuantiles{
      12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281,
      2.2010,  2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860,
      2.0796,  2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423};
  if (degrees_of_freedom <= kQuantiles.size()) return kQuantiles.at(degrees_of_freedom - 1);
  // Abramowitz and Stegun 26.7.5, from the normal quantile z.
  const double z = 1.959963984540054, n = static_cast<double>(degrees_of_freedom), z3 = z * z * z,
               z5 = z3 * z * z;
  return z + (z3 + z) / (4 * n) + (5 * z5 + 16 * z3 + 3 * z) / (96 * n * n);
}

Interval mean_of(std::span<const double> values) {
  const auto n = static_cast<double>(values.size());
  Interval interval{.count = values.size()};
  for (const double value : values) interval.mean += value / n;
  if (values.size() < 2) return interval;
  double squares = 0;
  for (const double value : values) squares += (value - interval.mean) * (value - interval.mean);
  interval.half_width = student_t(values.size() - 1) * std::sqrt(squares / (n - 1) / n);
  return interval;
}

std::vector<Group> group(const Plan& plan, std::span<const Row> rows) {
  std::vector<Group> groups;
  std::map<std::string, size_t> index;
  std::vector<std::map<std::string, std::vector<double>>> values;
  for (const Row& row : rows) {
    const auto& seeds = plan.cells[row.cell].seeds;
    Group group{.variant = row.variant};
    for (const auto& coordinate : row.key)
      if (std::find(seeds.begin(), seeds.end(), coordinate.first) == seeds.end())
        group.key.push_back(coordinate);
    const auto [at, is_new] =
        index.emplace(OrderedJson{row.variant, group.key}.dump(), groups.size());
    if (is_new) {
      groups.push_back(std::move(group));
      values.emplace_back();
    }
    groups[at->second].failed += !row.error.empty();
    for (const auto& [name, value] : row.results)
      if (value.is_number()) values[at->second][name].push_back(value.get<double>());
  }
  for (size_t i = 0; i < groups.size(); ++i)
    for (const auto& [name, numbers] : values[i]) groups[i].results[name] = mean_of(numbers);
  return groups;
}

std::string to_text(const std::optional<Interval>& interval) {
  if (!interval) return "-";
  if (!interval->half_width) return fmt::format("{:.4g}", interval->mean);
  const double width = *interval->half_width;
  // Two digits of the interval, and the mean to the same place.
  const int digits =
      width > 0 ? std::clamp(1 - static_cast<int>(std::floor(std::log10(width))), 0, 9) : 4;
  return fmt::format("{:.{}f} ± {:.{}f}", interval->mean, digits, width, digits);
}

std::vector<std::string> keys_of(std::span<const Row> rows) {
  return names_in(rows, &Row::key);
}

std::vector<std::string> result_names_of(std::span<const Row> rows) {
  return names_in(rows, &Row::results);
}

}  // namespace vyx::ablation
