#include "steering/directions/direction.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <cmath>
#include <map>
#include <utility>

#include "core/base/error.h"
#include "steering/directions/principal_component.h"

namespace vyx::steering {
namespace {

constexpr int64_t kKeptEigenvalues = 8;
constexpr double kSmallEigengap = 0.05;
// A projection that is closer to 0 than this, beside its rows' size, is 0.
constexpr double kZeroProjection = 1e-10;

struct Votes {
  int64_t in_favour = 0, against = 0;
};

// 1 for pairs with P·v > N·v, −1 with P·v < N·v, 0 where the projection is within rounding of 0:
// [n] int64.
at::Tensor side_of(const at::Tensor& differences, const at::Tensor& direction) {
  const at::Tensor projections = differences.mv(direction);                                  // [n]
  const at::Tensor threshold = kZeroProjection * differences.norm(2, 1) * direction.norm();  // [n]
  return (projections > threshold).to(at::kLong) - (projections < -threshold).to(at::kLong);
}

Votes vote(const at::Tensor& differences, const at::Tensor& direction) {
  const at::Tensor sides = side_of(differences, direction);  // [n]
  return {(sides > 0).sum().item<int64_t>(), (sides < 0).sum().item<int64_t>()};
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

/// Puts held_out_accuracy and held_out into `statistics`.
void judge(const Method& method, const MethodInput& input, const Differences& differences,
           DirectionStatistics& statistics) {
  const at::Tensor units = units_of(input.pairs);        // [n]
  std::map<int64_t, std::pair<int64_t, int64_t>> votes;  // unit → in favour, of how many pairs
  for (const auto& [fitted, judged] : hold_outs(input.pairs)) {
    const Fit second =
        fit_pairs(method, {rows_of(input.pairs, fitted), input.selection, input.median_norm},
                  {differences.rows.index({fitted}), differences.energy});
    if (!second.degenerate.empty()) continue;
    const at::Tensor own = units.index({judged}).contiguous();  // [judged]
    const at::Tensor sides =
        side_of(differences.rows.index({judged}), second.direction).contiguous();  // [judged]
    for (int64_t i = 0; i < own.numel(); ++i) {
      auto& [in_favour, all] = votes[own.const_data_ptr<int64_t>()[i]];
      in_favour += sides.const_data_ptr<int64_t>()[i] > 0;
      ++all;
    }
  }
  double sum = 0;
  for (const auto& [unit, vote] : votes)
    sum += static_cast<double>(vote.first) / static_cast<double>(vote.second);
  statistics.held_out = static_cast<int64_t>(votes.size());
  statistics.held_out_accuracy = sum / static_cast<double>(votes.size());  // NaN of none
}

}  // namespace

std::vector<std::string> doubts_of(const DirectionStatistics& statistics) {
  std::vector<std::string> doubts;
  if (statistics.eigenvalues.empty()) return doubts;  // nothing is known of it
  if (statistics.sign_vote_margin == 0)
    doubts.emplace_back("sign is a guess");
  else if (statistics.sign_vote_margin < 0)
    doubts.emplace_back("most pairs are against its sign");
  if (statistics.eigengap < kSmallEigengap)
    doubts.emplace_back("another direction explains the pairs as well");
  if (std::isnan(statistics.held_out_accuracy)) doubts.emplace_back("not judged on held-out pairs");
  return doubts;
}

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
  judge(method, input, differences, statistics);
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
