// The ways to make a direction, in one table: drivers, experiments and comparisons read it. A new
// method is a function in a file of its own and a row in methods.cpp (README.md has an example).
#pragma once
#include <ATen/core/Tensor.h>

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>

#include "steering/directions/differences.h"

namespace vyx::steering {

/// What a direction is made from.
struct MethodInput {
  ContrastActivations pairs;
  /// Further pairs on which a method may choose its settings; nullopt: it holds out some of `pairs`
  /// for that.
  std::optional<ContrastActivations> selection = std::nullopt;
  double median_norm = 0;  // of activations at the site; 0: that of `pairs`
};

/// What a method finds.
struct Fit {
  at::Tensor direction;      // [d] float64
  at::Tensor eigenvalues{};  // of DᵀD, or of what the method decomposes in its place: [min(pairs,
                             // d)] float64, the largest first; undefined: it decomposes nothing
  std::string degenerate{};  // why there is no direction, and what to do; "" when there is one
};

struct Method {
  using FromDifferences = Fit (*)(const Differences&);  // needs pairs
  using FromActivations = Fit (*)(const MethodInput&);  // needs activations with their side

  std::string_view name;  // "pca-center": for --method, in files and in reports
  std::string_view help;  // what it is, in a few words
  std::variant<FromDifferences, FromActivations> fit;
  bool sign_is_voted = false;  // it finds a line without a sign: the pairs vote for one
};

/// All methods, in the order in which they are listed and compared. The first one is the default.
std::span<const Method> methods();
/// Throws UsageError that lists all names when no method has that name.
const Method& method_named(std::string_view name);
/// "pca-center, pca-diff, …"
std::string method_names(std::string_view separator = ", ");
/// A line for each method: its name and what it is, for --help.
std::string method_help();

}  // namespace vyx::steering
