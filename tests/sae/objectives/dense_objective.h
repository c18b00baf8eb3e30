// The objectives once more, as anyone would write them with autograd: dense, in float64. What the
// sparse ones are held to.
#pragma once
#include <torch/script.h>

#include <vector>

#include "sae/objectives/objective.h"

namespace vyx::test {

struct DenseObjective {
  at::Tensor loss, reconstruction, sparsity, auxiliary;  // scalars
  at::Tensor f;                                          // [batch, latents]
  sae::Parameters gradients;
};

/// The straight-through steps of JumpReLU: value H(z − θ)·scale(z), gradients as the paper gives
/// them.
class StraightThrough : public torch::autograd::Function<StraightThrough> {
 public:
  /// z·H(z − θ) if `times_z`, else H(z − θ).
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& z,
                            const at::Tensor& theta, double bandwidth, bool times_z,
                            bool through_input) {
    context->save_for_backward({z, theta});
    context->saved_data["bandwidth"] = bandwidth;
    context->saved_data["times_z"] = times_z;
    context->saved_data["through_input"] = through_input;
    const at::Tensor step = (z > theta).to(z.dtype());
    return times_z ? z * step : step;
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradient) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &z = saved[0], &theta = saved[1];
    const double bandwidth = context->saved_data["bandwidth"].toDouble();
    const bool times_z = context->saved_data["times_z"].toBool();
    const at::Tensor window = (((z - theta) / bandwidth).abs() < 0.5).to(z.dtype());
    at::Tensor dz = times_z ? gradient[0] * (z > theta) : at::zeros_like(z);
    const at::Tensor d_theta =
        -(times_z ? theta.expand_as(z) : at::ones_like(z)) / bandwidth * window * gradient[0];
    if (context->saved_data["through_input"].toBool()) dz = dz - d_theta;
    return {dz, d_theta.sum(0), at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

inline at::Tensor squared_error(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).square().sum(-1).mean();
}

inline DenseObjective dense_objective(const sae::Autoencoder& sae, const sae::ObjectiveInput& input,
                                      const sae::ObjectiveOptions& options) {
  using sae::Architecture;
  const sae::Parameters w = sae::transformed(sae.weights, [](const at::Tensor& t) {
    return t.to(at::kDouble, /*non_blocking=*/false, /*copy=*/true).requires_grad_();
  });
  const auto& config = sae.config;
  const at::Tensor x = input.x.to(at::kDouble),
                   target = input.target.defined() ? input.target.to(at::kDouble) : x;
  const int64_t batch = x.size(0);
  const at::Tensor centered = config.subtract_decoder_bias ? x - w.decoder_bias : x;
  const at::Tensor product = at::mm(centered, w.encoder.t());  // [batch, latents]
  const at::Tensor z = product + w.encoder_bias;
  const at::Tensor base = w.skip.defined() ? w.decoder_bias + at::mm(x, w.skip.t())
                                           : w.decoder_bias + at::zeros_like(target);
  const auto sites = std::max<int64_t>(
      1, int64_t((config.target_sites.empty() ? config.sites : config.target_sites).size()));
  const at::Tensor n =
      w.decoder.view({config.latents, sites, -1}).norm(2, {-1}).sum(-1);  // [latents]
  const auto keep_topk = [](const at::Tensor& values, int64_t k) {
    return at::zeros_like(values).scatter(-1, std::get<1>(values.topk(k, -1)), 1.0);
  };

  DenseObjective result;
  result.sparsity = result.auxiliary = at::zeros({}, at::kDouble);
  at::Tensor extra = at::zeros({}, at::kDouble);  // losses of shorter prefixes
  switch (config.architecture) {
    case Architecture::relu:
      result.f = z.relu();
      result.sparsity = options.sparsity * (result.f * n).sum(-1).mean();
      break;
    case Architecture::gated: {
      const at::Tensor magnitude = product * w.magnitude_scale.exp() + w.magnitude_bias,
                       open = z.relu();
      result.f = (z > 0).to(at::kDouble) * magnitude.relu();
      result.sparsity = options.sparsity * (open * n).sum(-1).mean();
      const bool trains = options.gated_auxiliary_trains_decoder;
      result.auxiliary =
          squared_error(target, at::mm(open, trains ? w.decoder : w.decoder.detach()) +
                                    (trains ? base : base.detach()));
      break;
    }
    case Architecture::topk:
      result.f = (z * keep_topk(z, config.k)).relu();
      break;
    case Architecture::batch_topk:
      result.f = (z * keep_topk(z.flatten(), config.k * batch).view_as(z)).relu();
      break;
    case Architecture::jump_relu: {
      result.f = StraightThrough::apply(z, w.threshold, options.bandwidth, true,
                                        options.straight_through_input);
      const at::Tensor l0 = StraightThrough::apply(z, w.threshold, options.bandwidth, false,
                                                   options.straight_through_input)
                                .sum(-1)
                                .mean();
      if (options.jump_relu == sae::JumpReluSparsity::l0) result.sparsity = options.sparsity * l0;
      if (options.jump_relu == sae::JumpReluSparsity::l0_target)
        result.sparsity = options.sparsity * (l0 / options.l0_target - 1).square();
      if (options.jump_relu == sae::JumpReluSparsity::tanh) {
        result.sparsity =
            options.sparsity * (options.tanh_scale * result.f * n).tanh().sum(-1).mean();
        at::Tensor below = (w.threshold - z).relu() * n;
        if (options.pre_activation_of_dead)
          below = input.dead.defined() ? below * input.dead : below * 0;
        result.auxiliary = options.pre_activation * below.sum(-1).mean();
      }
      break;
    }
  }
  const at::Tensor x_hat = at::mm(result.f, w.decoder) + base;
  result.reconstruction = squared_error(target, x_hat);
  for (const int64_t prefix : config.prefixes)
    if (prefix < config.latents)
      extra =
          extra +
          squared_error(
              target, at::mm(result.f.narrow(1, 0, prefix), w.decoder.narrow(0, 0, prefix)) + base);
  const bool ranked = sae::traits_of(config.architecture).has_k;
  if (ranked && options.auxiliary > 0 && input.dead.defined() && input.dead.any().item<bool>()) {
    const at::Tensor error = (target - x_hat).detach();
    const int64_t k = options.auxiliary_k > 0 ? options.auxiliary_k : config.d_in / 2;
    const at::Tensor ids = input.dead.nonzero().view(-1), spare = z.index_select(1, ids);
    const at::Tensor f = (spare * keep_topk(spare, std::min(k, ids.size(0)))).relu();
    const auto variance_of = [](const at::Tensor& rows) {
      return (rows - rows.mean(0)).square().sum(-1).mean();
    };
    const at::Tensor variance = variance_of(error) / variance_of(target);
    result.auxiliary = options.auxiliary *
                       squared_error(error, at::mm(f, w.decoder.index_select(0, ids))) / variance;
  }
  result.loss = result.reconstruction + result.sparsity + result.auxiliary + extra;
  result.loss.backward();
  result.gradients = sae::transformed(
      w, [](const at::Tensor& t) { return t.grad().defined() ? t.grad() : at::zeros_like(t); });
  return result;
}

}  // namespace vyx::test
