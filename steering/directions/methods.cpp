#include "steering/directions/methods.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "core/base/error.h"
#include "steering/directions/logistic.h"
#include "steering/directions/mean_difference.h"
#include "steering/directions/principal_component.h"

namespace vyx::steering {

std::span<const Method> methods() {
  static constexpr std::array kMethods{
      Method{
          .name = "pca-center",
          .help = "first principal component of the differences, uncentred (repeng's pca_center)",
          .fit = pca_center,
          .sign_is_voted = true},
      Method{.name = "pca-diff",
             .help = "the same with the differences' mean removed (repeng's pca_diff)",
             .fit = pca_diff,
             .sign_is_voted = true},
      Method{.name = "mean",
             .help = "mean of the differences, with its magnitude (CAA)",
             .fit = mean_difference},
      Method{.name = "logistic",
             .help = "weights of a ridge logistic regression that tells the sides apart",
             .fit = logistic},
  };
  return kMethods;
}

const Method& method_named(std::string_view name) {
  const auto all = methods();
  const auto found =
      std::find_if(all.begin(), all.end(), [&](const Method& each) { return each.name == name; });
  if (found == all.end())
    throw UsageError(
        fmt::format("unknown method \"{}\"; expected one of {}", name, method_names()));
  return *found;
}

std::string method_names(std::string_view separator) {
  std::string names;
  for (const Method& method : methods()) {
    if (!names.empty()) names += separator;
    names += method.name;
  }
  return names;
}

std::string method_help() {
  std::string lines;
  for (const Method& method : methods())
    lines += fmt::format("{}{}: {}", lines.empty() ? "" : "\n", method.name, method.help);
  return lines;
}

}  // namespace vyx::steering
