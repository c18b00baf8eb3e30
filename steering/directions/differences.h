// Activations of contrasting inputs at one site, and their differences: what methods work on.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string_view>

namespace vyx::steering {

/// Row i of both sides belongs to pair i.
struct ContrastActivations {
  at::Tensor positive, negative;  // [pairs, d]
};

/// The pairs that `keep` [pairs] bool marks.
ContrastActivations rows_of(const ContrastActivations& pairs, const at::Tensor& keep);

/// The lower median of the norms of all activations, of both sides.
double median_norm(const ContrastActivations& pairs);

/// D = P − N of the pairs of one site.
struct Differences {
  at::Tensor rows;    // D [pairs, d] float64
  double energy = 0;  // sum of the squared norms of P and N, by which rounding is judged

  /// A sum of squares of differences up to this is rounding: activations are float32 sums.
  double negligible() const;
};

/// Throws Error that begins with `where` for no pairs, sides of different sizes, and values that
/// are not finite.
Differences differences_of(const ContrastActivations& pairs, std::string_view where);

/// Which pairs are held out of a fit so as to judge it: every fifth, [pairs] bool. nullopt: there
/// are fewer than ten pairs, too few to hold any out.
std::optional<at::Tensor> held_out(int64_t pairs);

}  // namespace vyx::steering
