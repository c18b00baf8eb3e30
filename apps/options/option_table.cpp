#include "apps/options/option_table.h"

#include <fmt/format.h>
#include <boost/program_options.hpp>

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <stdexcept>
#include <utility>

#include "core/base/error.h"

namespace vyx::apps {
namespace {

/// How --help --json calls the type of a field.
template <class T>
constexpr std::string_view kTypeOf = std::integral<T> ? "integer" : "number";
template <>
constexpr std::string_view kTypeOf<bool> = "switch";
template <>
constexpr std::string_view kTypeOf<std::string> = "text";

OptionRow row_of(std::string_view type, std::string unit, std::string help, bool required = false) {
  return {.name = {},
          .type = type,
          .unit = std::move(unit),
          .required = required,
          .help = std::move(help)};
}

}  // namespace

OptionTable::OptionTable() : parser_(std::make_unique<po::options_description>()) {}
OptionTable::OptionTable(OptionTable&&) noexcept = default;
OptionTable::~OptionTable() = default;

template <class T>
OptionRow& OptionTable::operator()(std::string names, T& field, std::string unit, std::string help,
                                   bool required) {
  auto* value = po::value(&field);
  OptionRow row = row_of(kTypeOf<T>, std::move(unit), std::move(help), required);
  if (required) {
    value->required();
  } else if (const std::string text = fmt::format("{}", field); !text.empty()) {
    row.standard = text;  // not Boost's own text, which has 0.29999999999999999 for 0.3
    value->default_value(field, text);
  }
  return add(names, value, std::move(row));
}

template <class T>
OptionRow& OptionTable::operator()(std::string names, std::vector<T>& field, std::string unit,
                                   std::string help, bool required) {
  auto* value = po::value(&field);
  if (required) value->required();
  if (unit.ends_with("…")) value->multitoken();
  OptionRow list = row_of(kTypeOf<T>, std::move(unit), std::move(help), required);
  list.many = true;
  return add(names, value, std::move(list));
}

template <class T>
OptionRow& OptionTable::operator()(std::string names, std::optional<T>& field, std::string unit,
                                   std::string help) {
  return on<T>(
      std::move(names), [&field](const T& value) { field = value; }, std::move(unit),
      std::move(help));
}

OptionRow& OptionTable::operator()(std::string names, bool& field, std::string help) {
  return add(names, po::bool_switch(&field), row_of(kTypeOf<bool>, "", std::move(help)));
}

template <class T>
OptionRow& OptionTable::on(std::string names, std::function<void(const T&)> take, std::string unit,
                           std::string help) {
  auto* value = po::value<T>()->notifier(std::move(take));
  return add(names, value, row_of(kTypeOf<T>, std::move(unit), std::move(help)));
}

bool OptionRow::is_path() const {
  return unit.starts_with("FILE") || unit.starts_with("FOLDER") || unit.starts_with("PATH");
}

void OptionTable::writes(std::string_view name) {
  const auto row = std::find_if(rows_.begin(), rows_.end(),
                                [&](const OptionRow& each) { return each.name == name; });
  if (row == rows_.end() || !row->is_path())
    throw std::logic_error(fmt::format("--{} is no path", name));
  row->written = true;
}

OptionRow& OptionTable::on(std::string names, std::function<void()> take, std::string help) {
  auto* value = po::bool_switch()->notifier([take = std::move(take)](bool given) {
    if (given) take();
  });
  return add(names, value, row_of(kTypeOf<bool>, "", std::move(help)));
}

OptionRow& OptionTable::add(const std::string& names, const po::value_semantic* value,
                            OptionRow row) {
  const auto comma = names.find(',');
  row.name = names.substr(0, comma);
  if (comma != std::string::npos) row.letter = names.at(comma + 1);
  parser_->add_options()(names.c_str(), value, "");  // --help is ours (help.h)
  return rows_.emplace_back(std::move(row));
}

OptionRow& OptionTable::row(std::string_view name) {
  for (OptionRow& known : rows_)
    if (known.name == name) return known;
  fail("the table has no option --{}", name);
}

#define VYX_OPTIONS_OF(T)                                                                       \
  template OptionRow& OptionTable::operator()(std::string, T&, std::string, std::string, bool); \
  template OptionRow& OptionTable::operator()(std::string, std::vector<T>&, std::string,        \
                                              std::string, bool);                               \
  template OptionRow& OptionTable::operator()(std::string, std::optional<T>&, std::string,      \
                                              std::string);                                     \
  template OptionRow& OptionTable::on(std::string, std::function<void(const T&)>, std::string,  \
                                      std::string)
VYX_OPTIONS_OF(int);
VYX_OPTIONS_OF(int64_t);
VYX_OPTIONS_OF(uint64_t);
VYX_OPTIONS_OF(double);
VYX_OPTIONS_OF(std::string);
#undef VYX_OPTIONS_OF

}  // namespace vyx::apps
