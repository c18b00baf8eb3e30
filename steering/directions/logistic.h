// Logistic regression with a ridge penalty, by Newton's method (iteratively reweighted least
// squares) in float64. Deterministic.
#pragma once
#include <ATen/core/Tensor.h>

#include "steering/directions/methods.h"

namespace vyx::steering {

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

/// The weights that tell the sides apart, of norm 1: a method. The ridge is chosen from a list by
/// the loss on the selection pairs; without those, by the loss on what hold_outs() judges first,
/// and all pairs are then fitted with it; where that is nothing it is 1. Degenerate where the
/// regression does no better than guessing.
Fit logistic(const MethodInput& input);

}  // namespace vyx::steering
