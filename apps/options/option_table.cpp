#include "apps/options/option_table.h"

namespace vyx::apps {

void OptionTable::on(std::string names, std::function<void()> take, std::string help) {
  auto* value = po::bool_switch()->notifier([take = std::move(take)](bool given) {
    if (given) take();
  });
  add(names, value, row(kTypeOf<bool>, "", std::move(help), false, {}));
}

OptionRow OptionTable::row(std::string_view type, std::string unit, std::string help, bool required,
                           std::optional<std::string> standard) {
  return {.name = {},
          .type = type,
          .unit = std::move(unit),
          .standard = std::move(standard),
          .required = required,
          .help = std::move(help)};
}

void OptionTable::add(const std::string& names, const po::value_semantic* value, OptionRow row) {
  const auto comma = names.find(',');
  row.name = names.substr(0, comma);
  if (comma != std::string::npos) row.letter = names.at(comma + 1);
  parser_.add_options()(names.c_str(), value, "");  // --help is ours (help.h)
  rows_.push_back(std::move(row));
}

}  // namespace vyx::apps
