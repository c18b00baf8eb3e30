// What a language model's forwards run under.
#pragma once
#include <ATen/core/grad_mode.h>
#include <torch/csrc/jit/runtime/graph_executor.h>

namespace vyx::models {

/// No gradients, and the graphs as they were written. TorchScript's optimiser profiles and
/// respecialises a whole model for each new shape of its inputs, seconds each time, and makes
/// decoding no faster.
struct ForwardScope {
  at::NoGradGuard no_grad;
  torch::jit::GraphOptimizerEnabledGuard unoptimized{false};
};

}  // namespace vyx::models
