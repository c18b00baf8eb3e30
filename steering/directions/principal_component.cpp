#include "steering/directions/principal_component.h"

#include <ATen/Functions.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <utility>

#include "core/base/error.h"

namespace vyx::steering {
namespace {

constexpr std::array<std::pair<Method, std::string_view>, 3> kMethods = {{
    {Method::pca_center, "pca-center"},
    {Method::pca_diff, "pca-diff"},
    {Method::mean, "mean"},
}};

constexpr int64_t kKeptEigenvalues = 8;
constexpr int64_t kHoldOutEvery = 5;  // the 5th, 10th, … pair
constexpr int64_t kFewestPairsToHoldOut = 2 * kHoldOutEvery;

// Activations are float32 sums: differences below this share of their size are rounding, and hold
// no direction.
constexpr double kActivationRounding = 1e-6;
// Two eigenvalues of a float64 decomposition that are closer than this are one, and so are a
// projection and 0.
constexpr double kRounding = 1e-10;

struct Fit {
  at::Tensor direction;      // [d] float64
  at::Tensor eigenvalues;    // [min(n, d)] float64, the largest first
  std::string degenerate{};  // why there is no direction; "" when there is one
};

double largest(const at::Tensor& descending) {
  return descending.numel() > 0 ? descending[0].item<double>() : 0;
}

double gap_of(const at::Tensor& eigenvalues) {
  if (eigenvalues.numel() < 2) return 1;
  return 1 - eigenvalues[1].item<double>() / largest(eigenvalues);
}

// `energy`: the squared norm of all activations that `differences` [n, d] float64 were made from.
Fit fit(const at::Tensor& differences, double energy, Method method) {
  const double negligible = kActivationRounding * kActivationRounding * energy;
  if (differences.square().sum().item<double>() <= negligible) {
    return {{},
            {},
            "every pair's two activations are the same; the two sides must differ before the token "
            "that is read"};
  }
  const at::Tensor mean = differences.mean(0);  // [d]
  if (method == Method::mean) {
    Fit result{mean, at::linalg_svdvals(differences).square()};
    if (mean.square().sum().item<double>() * static_cast<double>(differences.size(0)) <=
        negligible) {
      result.degenerate = "the differences cancel out, their mean is zero; use pca-center";
    }
    return result;
  }
  const at::Tensor rows = method == Method::pca_diff ? differences - mean : differences;  // [n, d]
  const auto [left, singular, right] = at::linalg_svd(rows, /*full_matrices=*/false);
  Fit result{right[0], singular.square()};
  if (largest(result.eigenvalues) <= negligible) {
    result.degenerate = fmt::format(
        "all {} differences are equal, so that nothing is left of them without their mean; use "
        "pca-center or mean",
        differences.size(0));
  } else if (gap_of(result.eigenvalues) < kRounding) {
    result.degenerate =
        "two directions explain the differences equally well; use more pairs, or mean";
  }
  return result;
}

struct Votes {
  int64_t in_favour = 0, against = 0;
};

// Pairs with P·v > N·v and with P·v < N·v. A projection within rounding of 0 has no vote.
Votes vote(const at::Tensor& differences, const at::Tensor& direction) {
  const at::Tensor projections = differences.mv(direction);                            // [n]
  const at::Tensor threshold = kRounding * differences.norm(2, 1) * direction.norm();  // [n]
  return {(projections > threshold).sum().item<int64_t>(),
          (projections < -threshold).sum().item<int64_t>()};
}

// A principal component has no sign of its own. The mean has, and keeps it.
void fix_sign(Fit& fit, const at::Tensor& differences, Method method) {
  if (method == Method::mean) return;
  const auto [in_favour, against] = vote(differences, fit.direction);
  const bool tie = in_favour == against;
  const bool largest_is_negative =
      fit.direction[fit.direction.abs().argmax().item<int64_t>()].item<double>() < 0;
  if (tie ? largest_is_negative : in_favour < against) fit.direction = -fit.direction;
}

double held_out_accuracy(const at::Tensor& differences, double energy, Method method) {
  const int64_t pairs = differences.size(0);
  if (pairs < kFewestPairsToHoldOut) return std::numeric_limits<double>::quiet_NaN();
  const at::Tensor held_out =
      at::arange(pairs).remainder(kHoldOutEvery) == kHoldOutEvery - 1;  // [n] bool
  const at::Tensor kept = differences.index({held_out.logical_not()}),
                   left_out = differences.index({held_out});
  Fit second = fit(kept, energy, method);
  if (!second.degenerate.empty()) return std::numeric_limits<double>::quiet_NaN();
  fix_sign(second, kept, method);
  return static_cast<double>(vote(left_out, second.direction).in_favour) /
         static_cast<double>(left_out.size(0));
}

void check(const at::Tensor& positive, const at::Tensor& negative, std::string_view where) {
  for (const auto& [side, name] :
       {std::pair{positive, "positive"}, std::pair{negative, "negative"}}) {
    if (side.dim() != 2) {
      fail("{}: the {} activations have {} dimensions, expected [pairs, width]", where, name,
           side.dim());
    }
    if (side.size(0) == 0 || side.size(1) == 0) {
      fail("{}: there are no {} activations; give at least one pair", where, name);
    }
    if (!at::isfinite(side).all().item<bool>()) {
      const at::Tensor bad = at::isfinite(side).all(1).logical_not();  // [n]
      fail(
          "{}: the {} activation of pair {} is not finite; the model overflows there, try it in "
          "float32",
          where, name, bad.nonzero()[0].item<int64_t>() + 1);
    }
  }
  if (positive.size(0) != negative.size(0)) {
    fail("{}: {} positive and {} negative activations, expected pairs", where, positive.size(0),
         negative.size(0));
  }
  if (positive.size(1) != negative.size(1)) {
    fail(
        "{}: positive activations of width {}, negative ones of width {}; both must come from one "
        "site",
        where, positive.size(1), negative.size(1));
  }
}

}  // namespace

std::string_view name_of(Method method) {
  return std::find_if(kMethods.begin(), kMethods.end(),
                      [&](const auto& known) { return known.first == method; })
      ->second;
}

Method method_from_name(std::string_view name) {
  std::string names;
  for (const auto& [method, known] : kMethods) {
    if (known == name) return method;
    names += (names.empty() ? "" : ", ") + std::string(known);
  }
  throw UsageError(fmt::format("unknown method \"{}\"; expected one of {}", name, names));
}

Direction find_direction(const at::Tensor& positive, const at::Tensor& negative, Method method,
                         std::string_view where) {
  const at::Tensor p = positive.detach().to(at::kCPU, at::kDouble),
                   n = negative.detach().to(at::kCPU, at::kDouble);
  check(p, n, where);
  const at::Tensor norms = at::cat({p.norm(2, 1), n.norm(2, 1)});  // [2 n]
  const double energy = norms.square().sum().item<double>();
  const at::Tensor differences = p - n;  // [n, d]

  Fit found = fit(differences, energy, method);
  if (!found.degenerate.empty())
    fail("{}: {} finds no direction: {}", where, name_of(method), found.degenerate);
  fix_sign(found, differences, method);

  DirectionStatistics statistics;
  const at::Tensor kept = found.eigenvalues.slice(0, 0, kKeptEigenvalues).contiguous();
  statistics.eigenvalues.assign(kept.const_data_ptr<double>(),
                                kept.const_data_ptr<double>() + kept.numel());
  statistics.eigengap = gap_of(found.eigenvalues);
  const auto [in_favour, against] = vote(differences, found.direction);
  statistics.sign_vote_margin =
      static_cast<double>(in_favour - against) / static_cast<double>(p.size(0));
  statistics.held_out_accuracy = held_out_accuracy(differences, energy, method);
  statistics.median_norm = norms.median().item<double>();
  return {found.direction.to(at::kFloat).contiguous(), std::move(statistics)};
}

}  // namespace vyx::steering
