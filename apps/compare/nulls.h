// The nulls: what the road (road.h) gives when one part of its input is replaced by one that knows
// nothing of the concept. A null is valid for a method when, without the concept, it gives p-values
// that are uniform; not each one is for each method, and the table says for which.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "apps/compare/road.h"
#include "apps/compare/turn.h"

namespace vyx::compare {

/// What replacements are made from.
struct NullSource {
  RoadInput input;  // the observed one, its directions found
  Spread spread;    // of the background
  at::Tensor rows;  // activations over which latents' largest is looked up [n, d]
  std::vector<ContrastActivations> foreign;  // pairs of other concepts
  // Of the pairs: extraction's and selection's groups; those of one are swapped together.
  std::vector<size_t> extraction_groups, selection_groups;
  uint64_t seed = 0;
};

/// What decides which nulls are valid for a method.
struct MethodTraits {
  Family family = Family::direction;
  bool finds_line = false;  // as Method
  bool can_turn = true;     // of latents: their dictionary can be turned (turn.h)
};

struct Null {
  std::string_view name;        // "swapped sides"
  std::string_view replaces;    // the part of the input
  std::string_view hypothesis;  // that p speaks against: "a pair's two sides are alike"
  bool (*is_valid_for)(const MethodTraits& method);
  /// The input of a draw, for the directions that it is valid for.
  RoadInput (*replaced)(const NullSource& source, uint64_t draw);
  bool drives_all = false;     // one draw serves all methods, so that their p are adjusted together
  bool is_one_vector = false;  // a draw has one direction, whose effect stands for each method's
  bool is_limited = false;     // there are as many draws as foreign sets, and no more
};

std::span<const Null> nulls();
/// Whether it is valid for a method of the observed road.
bool is_valid(const Null& null, const NullSource& source, std::string_view method);

}  // namespace vyx::compare
