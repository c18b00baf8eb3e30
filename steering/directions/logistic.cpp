#include "steering/directions/logistic.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <cmath>
#include <limits>
#include <tuple>
#include <utility>

#include "core/base/error.h"

namespace vyx::steering {
namespace {

constexpr int kMaxIterations = 50;
constexpr double kConverged = 1e-10;  // of the step, relative
constexpr int kHalvings = 30;
constexpr double kRidges[] = {1e-2, 1e-1, 1e0, 1e1, 1e2, 1e3};
constexpr double kRidgeWithoutChoice = 1;
constexpr double kNoBetter = 1e-12;  // a fit whose loss is this close to log 2 has learnt nothing

/// Σ log(1 + exp(−s·score)) + ½·ridge·‖w‖², of w with the intercept as its last element.
double objective(const at::Tensor& scores, const at::Tensor& signs, const at::Tensor& w,
                 double ridge) {
  const double loss = at::softplus(-signs * scores).sum().item<double>();
  return loss + 0.5 * ridge * w.slice(0, 0, -1).square().sum().item<double>();
}

ContrastActivations scaled(const ContrastActivations& pairs, double scale) {
  return {pairs.positive.detach().cpu() * scale, pairs.negative.detach().cpu() * scale,
          pairs.groups, pairs.personas};
}

struct Choice {
  double ridge = kRidgeWithoutChoice;
  LogisticFit fit;
};

/// The fit of `pairs`, among those with each ridge, that has the least loss on `judges`.
Choice choose_ridge(const ContrastActivations& pairs, const ContrastActivations& judges) {
  Choice best;
  double least = std::numeric_limits<double>::infinity();
  for (const double ridge : kRidges) {
    LogisticFit fit = fit_logistic(pairs.positive, pairs.negative, ridge);
    const double loss = log_loss(fit, judges.positive, judges.negative);
    if (loss < least) {
      least = loss;
      best = {ridge, std::move(fit)};
    }
  }
  return best;
}

}  // namespace

LogisticFit fit_logistic(const at::Tensor& positive, const at::Tensor& negative, double ridge) {
  if (!(ridge > 0))
    fail(
        "logistic regression: found a ridge of {}, expected more than 0; without one, separable "
        "sides have no fit",
        ridge);
  const at::Tensor rows = at::cat({positive, negative}).to(at::kDouble);  // [n, d]
  const at::Tensor labels = at::cat({at::ones({positive.size(0)}, at::kDouble),
                                     at::zeros({negative.size(0)}, at::kDouble)});  // [n]
  const at::Tensor signs = 2 * labels - 1;
  const at::Tensor center = rows.mean(0);  // [d]
  // The penalty keeps w in the span of the rows: with rows = U S Vᵀ, w = V u and the regression is
  // one on U S.
  const auto [left, singular, right] =
      at::linalg_svd(rows - center, /*full_matrices=*/false);  // [n, r], [r], [r, d]
  const at::Tensor z =
      at::cat({left * singular, at::ones({rows.size(0), 1}, at::kDouble)}, 1);  // [n, r + 1]
  at::Tensor penalty = at::full({z.size(1)}, ridge, at::kDouble);               // [r + 1]
  penalty[-1] = 0;

  LogisticFit fit;
  at::Tensor u = at::zeros({z.size(1)}, at::kDouble);  // [r + 1]
  double current = objective(z.mv(u), signs, u, ridge);
  for (fit.iterations = 1; fit.iterations <= kMaxIterations; ++fit.iterations) {
    const at::Tensor p = z.mv(u).sigmoid();                                  // [n]
    const at::Tensor gradient = z.t().mv(p - labels) + penalty * u;          // [r + 1]
    const at::Tensor weights = (p * (1 - p)).clamp_min(1e-12).unsqueeze(1);  // [n, 1]
    const at::Tensor hessian = z.t().mm(z * weights) + penalty.diag();       // [r + 1, r + 1]
    const at::Tensor step = at::linalg_solve(hessian, gradient);             // [r + 1]
    double length = 1;
    double next = objective(z.mv(u - step), signs, u - step, ridge);
    for (int i = 0; i < kHalvings && !(next <= current); ++i) {
      length /= 2;
      next = objective(z.mv(u - length * step), signs, u - length * step, ridge);
    }
    u = u - length * step;
    const bool converged =
        (length * step).norm().item<double>() <= kConverged * (1 + u.norm().item<double>());
    current = next;
    if (converged) break;
  }
  fit.weights = right.t().mv(u.slice(0, 0, -1));
  fit.intercept = u[-1].item<double>() - fit.weights.dot(center).item<double>();
  return fit;
}

double log_loss(const LogisticFit& fit, const at::Tensor& positive, const at::Tensor& negative) {
  const at::Tensor p = positive.to(at::kDouble).mv(fit.weights) + fit.intercept;  // [p]
  const at::Tensor n = negative.to(at::kDouble).mv(fit.weights) + fit.intercept;  // [n]
  return at::softplus(at::cat({-p, n})).mean().item<double>();
}

Fit logistic(const MethodInput& input) {
  // Activations are brought to a norm of about √d first, so that one list of ridges serves every
  // model.
  const double norm = input.median_norm > 0 ? input.median_norm : median_norm(input.pairs);
  const double scale = std::sqrt(static_cast<double>(input.pairs.positive.size(1))) / norm;
  const ContrastActivations pairs = scaled(input.pairs, scale);
  const auto fit_all = [&](double ridge) {
    return fit_logistic(pairs.positive, pairs.negative, ridge);
  };
  LogisticFit found;
  if (input.selection) {
    found = choose_ridge(pairs, scaled(*input.selection, scale)).fit;
  } else if (const std::vector<HoldOut> splits = hold_outs(pairs); !splits.empty()) {
    const auto& [fitted, judged] = splits.front();
    found = fit_all(choose_ridge(rows_of(pairs, fitted), rows_of(pairs, judged)).ridge);
  } else {
    found = fit_all(kRidgeWithoutChoice);
  }
  const double loss =
      found.weights.defined() ? log_loss(found, pairs.positive, pairs.negative) : std::log(2.0);
  if (!(std::log(2.0) - loss > kNoBetter))
    return {.degenerate =
                "the sides cannot be told apart better than by guessing; expected pairs that "
                "differ in the same way"};
  return {.direction = found.weights / found.weights.norm()};
}

}  // namespace vyx::steering
