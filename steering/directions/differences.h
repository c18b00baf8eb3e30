// Activations of contrasting inputs at one site, and their differences: what methods work on.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string_view>
#include <vector>

namespace vyx::steering {

/// Row i of both sides belongs to pair i.
struct ContrastActivations {
  at::Tensor positive, negative;  // [pairs, d]
  /// What pairs have in common (pair_groups.h) [pairs] int64; undefined: nothing.
  at::Tensor groups{}, personas{};
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

/// A fit that leaves pairs out, so as to be judged on some of them. Those that are like them are in
/// neither.
struct HoldOut {
  at::Tensor fitted, judged;  // [pairs] bool
};

/// Without personas, or with one: every fifth group is judged by the fit without it; empty when
/// there are fewer than ten. With several personas, each is judged once (every fifth of them at a
/// time), by the fit without it, on every fifth group, which that fit has not seen either.
std::vector<HoldOut> hold_outs(const ContrastActivations& pairs);

/// What a judgement counts as one, [pairs] int64, from 0: personas where there are several, else
/// groups.
at::Tensor units_of(const ContrastActivations& pairs);

}  // namespace vyx::steering
