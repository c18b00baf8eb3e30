// Logistic regression with a ridge penalty, by Newton's method (iteratively reweighted least
// squares) in float64. Deterministic.
#pragma once
#include <ATen/core/Tensor.h>

namespace vyx::compare {

struct LogisticFit {
  at::Tensor weights;    // [d] float64
  double intercept = 0;  // not penalised
  int iterations = 0;
};

/// Minimises Σ log(1 + exp(−s·(x·w + b))) + ½·ridge·‖w‖², s = ±1, over `positive` [p, d] and
/// `negative` [n, d]. ridge > 0. Solved in the rows' own space, so that d may be large.
LogisticFit fit_logistic(const at::Tensor& positive, const at::Tensor& negative, double ridge);

/// Mean log-loss of a fit on other rows, nats.
double log_loss(const LogisticFit& fit, const at::Tensor& positive, const at::Tensor& negative);

}  // namespace vyx::compare
