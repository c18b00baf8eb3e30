#include "apps/compare/nulls.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <algorithm>
#include <array>
#include <map>
#include <string>
#include <utility>

#include "core/base/random.h"

namespace vyx::compare {
namespace {

enum NullStream : uint64_t { kRotations = 101, kCovariance, kSwaps };

bool can_rotate(const MethodTraits& method) {
  return method.family == Family::direction || method.can_turn;
}
bool is_direction(const MethodTraits& method) {
  return method.family == Family::direction;
}
/// A principal component is a line: swapped sides leave it, or turn it into the one that has the
/// concept which it had taken out.
bool has_sides(const MethodTraits& method) {
  return is_direction(method) && !method.finds_line;
}

MethodTraits traits_of(const NullSource& source, std::string_view name) {
  for (const Method& method : source.input.directions)
    if (method.name == name) return {.finds_line = method.finds_line};
  return {.family = Family::latent,
          .can_turn = source.input.latents && can_turn(source.input.latents->sae)};
}

/// The input without latents, with directions found anew by methods for which the null is valid.
RoadInput found_anew(RoadInput input, bool (*valid)(const MethodTraits&)) {
  std::vector<std::string> names;
  for (const Method& method : input.directions)
    if (valid({.finds_line = method.finds_line})) names.push_back(method.name);
  input.directions = find_directions(input, names);
  input.latents.reset();
  return input;
}

RoadInput rotated(const NullSource& source, uint64_t draw) {
  const at::Tensor q = random_rotation(source.spread.center.size(0),
                                       random_bits(source.seed, kRotations, draw));  // [d, d]
  RoadInput input = source.input;
  for (Method& method : input.directions)
    method = direction_method(method.name, q.mv(method.direction), input.median_norm);
  if (input.latents && !can_turn(input.latents->sae)) input.latents.reset();
  if (input.latents)
    input.latents = latents_over(turned(input.latents->sae, source.spread, q), source.rows);
  return input;
}

/// Both sides swapped where a coin of (seed, draw, stream, group) says so.
ContrastActivations swapped(const ContrastActivations& pairs, const std::vector<size_t>& groups,
                            const NullSource& source, uint64_t draw, uint64_t stream) {
  at::Tensor swap = at::empty({pairs.positive.size(0), 1}, at::kBool);  // [pairs, 1]
  for (int64_t i = 0; i < swap.size(0); ++i)
    swap.mutable_data_ptr<bool>()[i] =
        (random_bits(source.seed, kSwaps,
                     (draw * 2 + stream) << 32 | groups[static_cast<size_t>(i)]) &
         1) != 0;
  return {at::where(swap, pairs.negative, pairs.positive),
          at::where(swap, pairs.positive, pairs.negative)};
}

RoadInput with_swapped_sides(const NullSource& source, uint64_t draw) {
  RoadInput input = source.input;
  input.extraction = swapped(input.extraction, source.extraction_groups, source, draw, 0);
  input.selection = swapped(input.selection, source.selection_groups, source, draw, 1);
  return found_anew(std::move(input), has_sides);
}

RoadInput of_another_concept(const NullSource& source, uint64_t draw) {
  RoadInput input = source.input;
  input.extraction = input.selection = source.foreign[draw];
  return found_anew(std::move(input), is_direction);
}

RoadInput with_background_vector(const NullSource& source, uint64_t draw) {
  RoadInput input = source.input;
  const at::Tensor vector = source.spread.root.mv(
      at::randn({source.spread.center.size(0)},
                at::detail::createCPUGenerator(random_bits(source.seed, kCovariance, draw)),
                at::TensorOptions(at::kDouble)));  // [d]
  input.directions = {direction_method("a vector of the background", vector, input.median_norm)};
  input.latents.reset();
  return input;
}

}  // namespace

std::span<const Null> nulls() {
  static constexpr std::array kNulls{
      Null{
          .name = "rotation",
          .replaces = "directions by rotated ones, the dictionary by one that is turned within "
                      "the activations' spread",
          .hypothesis = "any other direction, and any other dictionary of this shape, does as well",
          .is_valid_for = can_rotate,
          .replaced = rotated,
          .drives_all = true},
      Null{.name = "swapped sides",
           .replaces = "labels of the pairs",
           .hypothesis = "the two sides of a pair are alike",
           .is_valid_for = has_sides,
           .replaced = with_swapped_sides},
      Null{.name = "foreign contrast sets",
           .replaces = "activations of the pairs",
           .hypothesis = "any other concept does as well",
           .is_valid_for = is_direction,
           .replaced = of_another_concept,
           .is_limited = true},
      Null{.name = "covariance-matched vectors",
           .replaces = "directions by vectors along which the background varies",
           .hypothesis = "any direction on strong axes does as well",
           .is_valid_for = is_direction,
           .replaced = with_background_vector,
           .is_one_vector = true},
  };
  return kNulls;
}

bool is_valid(const Null& null, const NullSource& source, std::string_view method) {
  return null.is_valid_for(traits_of(source, method));
}

}  // namespace vyx::compare
