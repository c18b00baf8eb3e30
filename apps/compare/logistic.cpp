#include "apps/compare/logistic.h"

#include <ATen/Functions.h>

#include <tuple>

#include "core/base/error.h"

namespace vyx::compare {
namespace {

constexpr int kMaxIterations = 50;
constexpr double kConverged = 1e-10;  // of the step, relative
constexpr int kHalvings = 30;

/// Σ log(1 + exp(−s·score)) + ½·ridge·‖w‖², of w with the intercept as its last element.
double objective(const at::Tensor& scores, const at::Tensor& signs, const at::Tensor& w,
                 double ridge) {
  const double loss = at::softplus(-signs * scores).sum().item<double>();
  return loss + 0.5 * ridge * w.slice(0, 0, -1).square().sum().item<double>();
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

}  // namespace vyx::compare
