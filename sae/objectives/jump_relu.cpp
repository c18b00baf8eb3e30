// JumpReLU: f = z·H(z − θ) with straight-through gradients for θ, K the rectangle on (−½, ½)
// (Rajamanoharan et al. 2024, arXiv:2407.14435):
//
//     ∂f/∂θ = −(θ/ε)·K((z − θ)/ε)        ∂H/∂θ = −(1/ε)·K((z − θ)/ε)
//
// Sparsity is λ·E L0, λ·(E L0/target − 1)², or λ·E Σ tanh(c·f_i n_i) with λ_P·E Σ relu(θ_i − z_i)
// n_i (Anthropic, January 2025). The last has a gradient wherever a latent does not fire. It is
// kept sparse: the gradient of a latent that never fires, taken back where it does.
#include <cmath>

#include "core/base/error.h"
#include "sae/objectives/batch.h"
#include "sae/objectives/elementwise.h"

namespace vyx::sae {
namespace {

struct JumpReluRule {
  static constexpr bool kIdentity = false;
  static constexpr bool kAuxiliary = false;
  std::vector<float> lower, norms;
  std::vector<float> pre_activation;  // λ_P n_i / batch, or 0
  const float* threshold;
  float bandwidth;
  float tanh_weight, tanh_scale;  // λ / batch and c; 0 for the other sparsities
  bool through_input;             // whether the window's gradient goes to z too
  float step_weight;              // λ / batch for JumpReluSparsity::l0, of what then goes to z

  float activation(int64_t i, float z) const { return z > threshold[i] ? z : 0; }

  float backward(int64_t i, float z, float df, float, LatentSums& sums) const {
    const float theta = threshold[i], f = activation(i, z);
    const bool fires = z > theta;
    if (tanh_weight > 0) {
      const float saturation = std::tanh(tanh_scale * f * norms[i]),
                  slope = tanh_weight * tanh_scale * (1 - saturation * saturation);
      df += slope * norms[i];
      sums.norm += double(slope) * f;
      sums.sparsity += double(tanh_weight) * saturation;
    }
    float dz = fires ? df : 0;
    if (std::abs(z - theta) < bandwidth / 2) {
      sums.threshold -= double(theta) / bandwidth * df;
      sums.step -= 1.0 / bandwidth;
      if (through_input) dz += (theta * df + step_weight) / bandwidth;
    }
    if (z >= theta) {
      dz += pre_activation[i];
      sums.threshold -= pre_activation[i];
      sums.auxiliary -= double(pre_activation[i]) * (theta - z);
      if (norms[i] > 0) sums.norm -= double(pre_activation[i]) / norms[i] * (theta - z);
    }
    sums.bias += dz;
    sums.product += dz;
    sums.fired += fires;
    return dz;
  }
};

/// The pre-activation loss as if no latent fired: Σ_t (θ − z_t) n and its gradients need only Σ_t
/// x_t.
void add_pre_activation(const JumpReluRule& rule, const Batch& batch, std::vector<LatentSums>& sums,
                        Parameters& gradients) {
  const RowSums rows = row_sums(batch.centered);
  const std::vector<float> total(rows.columns.begin(), rows.columns.end());  // Σ x [d_in]
  const float *encoder = batch.weights.encoder.const_data_ptr<float>(),
              *bias = batch.weights.encoder_bias.const_data_ptr<float>();
  auto* out = gradients.encoder.mutable_data_ptr<float>();
  const auto size = double(batch.size);
  parallel_ranges(batch.latents, 64, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float weight = rule.pre_activation[i];
      if (weight == 0) continue;
      const double below = size * (double(rule.threshold[i]) - bias[i]) -
                           dot(encoder + i * batch.d_in, total.data(), batch.d_in);
      sums[i].auxiliary += weight * below;
      sums[i].norm += weight / rule.norms[i] * below;
      sums[i].threshold += weight * size;
      sums[i].bias -= weight * size;
      sums[i].product -= weight * size;
      const float negative = -weight;
      const int32_t first = 0;
      weighted_sum(out + i * batch.d_in, batch.d_in, &negative, &first, 1, total.data(), true);
    }
  });
}

}  // namespace

void jump_relu_objective(const Batch& batch, const at::Tensor& dead,
                         const ObjectiveOptions& options, ObjectiveResult& result,
                         Parameters& gradients) {
  if (options.straight_through_input && options.jump_relu == JumpReluSparsity::l0_target)
    fail("jump-relu: found straight_through_input with l0_target, expected it with l0 or tanh");
  const auto size = double(batch.size);
  const bool tanh = options.jump_relu == JumpReluSparsity::tanh;
  JumpReluRule rule{.lower = std::vector<float>(batch.latents),
                    .norms = decoder_norms(batch),
                    .pre_activation = std::vector<float>(batch.latents),
                    .threshold = batch.weights.threshold.const_data_ptr<float>(),
                    .bandwidth = float(options.bandwidth),
                    .tanh_weight = tanh ? float(options.sparsity / size) : 0,
                    .tanh_scale = float(options.tanh_scale),
                    .through_input = options.straight_through_input,
                    .step_weight = options.jump_relu == JumpReluSparsity::l0
                                       ? float(options.sparsity / size)
                                       : 0};
  const bool pre_activation = tanh && options.pre_activation > 0;
  for (int64_t i = 0; i < batch.latents; ++i) {
    rule.lower[i] = rule.threshold[i] - rule.bandwidth / 2;
    const bool counts =
        !options.pre_activation_of_dead || (dead.defined() && dead.const_data_ptr<bool>()[i]);
    if (pre_activation && counts)
      rule.pre_activation[i] = float(options.pre_activation / size) * rule.norms[i];
  }
  ElementwiseResult computed =
      elementwise_objective(rule, batch, options, Auxiliary::trains_encoder, gradients);
  if (pre_activation) add_pre_activation(rule, batch, computed.sums, gradients);

  double fired = 0;
  for (const LatentSums& sum : computed.sums) fired += double(sum.fired);
  const double l0 = fired / size;
  double step_weight = 0;  // ∂loss/∂Σ H
  if (options.jump_relu == JumpReluSparsity::l0) {
    result.sparsity = options.sparsity * l0;
    step_weight = options.sparsity / size;
  } else if (options.jump_relu == JumpReluSparsity::l0_target) {
    const double excess = l0 / options.l0_target - 1;
    result.sparsity = options.sparsity * excess * excess;
    step_weight = options.sparsity * 2 * excess / options.l0_target / size;
  }
  for (LatentSums& sum : computed.sums) sum.threshold += step_weight * sum.step;

  if (tanh) add_norm_gradients(batch, computed.sums, gradients);
  finish_gradients(batch, computed.sums, computed.main.gradient, gradients);
  finish_result(batch, computed.sums, result);
  result.reconstruction = computed.main.error / size;
  result.loss = result.reconstruction + result.sparsity + result.auxiliary;
}

}  // namespace vyx::sae
