#include "steering/directions/direction.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <limits>
#include <utility>

#include "core/base/error.h"
#include "steering/directions/principal_component.h"

namespace vyx::steering {
namespace {

constexpr int64_t kKeptEigenvalues = 8;
// A projection that is closer to 0 than this, beside its rows' size, is 0.
constexpr double kZeroProjection = 1e-10;

struct Votes {
  int64_t in_favour = 0, against = 0;
};

// Pairs with P·v > N·v and with P·v < N·v. A projection within rounding of 0 has no vote.
Votes vote(const at::Tensor& differences, const at::Tensor& direction) {
  const at::Tensor projections = differences.mv(direction);                                  // [n]
  const at::Tensor threshold = kZeroProjection * differences.norm(2, 1) * direction.norm();  // [n]
  return {(projections > threshold).sum().item<int64_t>(),
          (projections < -threshold).sum().item<int64_t>()};
}

at::Tensor with_voted_sign(const at::Tensor& direction, const at::Tensor& differences) {
  const auto [in_favour, against] = vote(differences, direction);
  const bool tie = in_favour == against;
  const bool largest_is_negative =
      direction[direction.abs().argmax().item<int64_t>()].item<double>() < 0;
  return (tie ? largest_is_negative : in_favour < against) ? -direction : direction;
}

Fit fit_pairs(const Method& method, const MethodInput& input, const Differences& differences) {
  if (differences.rows.square().sum().item<double>() <= differences.negligible()) {
    return {.degenerate =
                "every pair's two activations are the same; the two sides must differ before the "
                "token that is read"};
  }
  const auto* of_differences = std::get_if<Method::FromDifferences>(&method.fit);
  Fit found = of_differences ? (*of_differences)(differences)
                             : std::get<Method::FromActivations>(method.fit)(input);
  if (method.sign_is_voted && found.degenerate.empty())
    found.direction = with_voted_sign(found.direction, differences.rows);
  return found;
}

Fit fit_or_fail(const Method& method, const MethodInput& input, const Differences& differences,
                std::string_view where) {
  Fit found = fit_pairs(method, input, differences);
  if (!found.degenerate.empty())
    fail("{}: {} finds no direction: {}", where, method.name, found.degenerate);
  return found;
}

double held_out_accuracy(const Method& method, const MethodInput& input,
                         const Differences& differences) {
  const auto left_out = held_out(differences.rows.size(0));
  if (!left_out) return std::numeric_limits<double>::quiet_NaN();
  const at::Tensor kept = left_out->logical_not();  // [n]
  const Fit second =
      fit_pairs(method, {rows_of(input.pairs, kept), input.selection, input.median_norm},
                {differences.rows.index({kept}), differences.energy});
  if (!second.degenerate.empty()) return std::numeric_limits<double>::quiet_NaN();
  const at::Tensor judges = differences.rows.index({*left_out});  // [n / 5, d]
  return static_cast<double>(vote(judges, second.direction).in_favour) /
         static_cast<double>(judges.size(0));
}

}  // namespace

Direction find_direction(const MethodInput& input, const Method& method, std::string_view where) {
  const Differences differences = differences_of(input.pairs, where);
  const Fit found = fit_or_fail(method, input, differences, where);
  const at::Tensor eigenvalues = found.eigenvalues.defined()
                                     ? found.eigenvalues
                                     : at::linalg_svdvals(differences.rows).square();

  DirectionStatistics statistics;
  const at::Tensor kept = eigenvalues.slice(0, 0, kKeptEigenvalues).contiguous();
  statistics.eigenvalues.assign(kept.const_data_ptr<double>(),
                                kept.const_data_ptr<double>() + kept.numel());
  statistics.eigengap = eigengap(eigenvalues);
  const auto [in_favour, against] = vote(differences.rows, found.direction);
  statistics.sign_vote_margin =
      static_cast<double>(in_favour - against) / static_cast<double>(differences.rows.size(0));
  statistics.held_out_accuracy = held_out_accuracy(method, input, differences);
  statistics.median_norm = median_norm(input.pairs);
  return {found.direction.to(at::kFloat).contiguous(), std::move(statistics)};
}

at::Tensor find_vector(const MethodInput& input, const Method& method, std::string_view where) {
  const Differences differences = differences_of(input.pairs, where);
  const at::Tensor vector = fit_or_fail(method, input, differences, where).direction;
  return std::holds_alternative<Method::FromDifferences>(method.fit)
             ? vector.to(at::kFloat).contiguous()
             : vector;
}

}  // namespace vyx::steering
