// Gated: one product p = x·W_enc for the gate π = p + b_gate and the magnitude p·e^r + b_mag
// (Rajamanoharan et al. 2024, arXiv:2404.16014):
//
//     E‖x − x̂‖² + λ·E Σ relu(π_i) n_i + E‖x − (relu(π)·W_dec + b_dec)‖²
//
// The step has no gradient: only the last two terms train the gate.
#include <ATen/TensorOperators.h>

#include <cmath>

#include "sae/objectives/batch.h"
#include "sae/objectives/elementwise.h"

namespace vyx::sae {
namespace {

struct GatedRule {
  static constexpr bool kIdentity = false;
  static constexpr bool kAuxiliary = true;
  std::vector<float> lower, norms, scale;  // scale = e^r
  const float *gate_bias, *magnitude_bias;
  float weight;  // λ / batch

  float magnitude(int64_t i, float gate) const {
    return (gate - gate_bias[i]) * scale[i] + magnitude_bias[i];
  }

  float activation(int64_t i, float gate) const { return std::max(magnitude(i, gate), 0.0f); }

  float backward(int64_t i, float gate, float df, float da, LatentSums& sums) const {
    const bool fires = magnitude(i, gate) > 0;
    const float d_magnitude = fires ? df : 0, d_gate = da + weight * norms[i];
    const float d_product = d_magnitude * scale[i] + d_gate;
    sums.product += d_product;
    sums.bias += d_gate;
    sums.magnitude_bias += d_magnitude;
    sums.magnitude_scale += double(d_magnitude) * (gate - gate_bias[i]) * scale[i];
    sums.norm += double(weight) * gate;
    sums.sparsity += double(weight) * gate * norms[i];
    sums.fired += fires;
    return d_product;
  }
};

}  // namespace

void gated_objective(const Batch& batch, const ObjectiveOptions& options, ObjectiveResult& result,
                     Parameters& gradients) {
  GatedRule rule{.lower = std::vector<float>(batch.latents),
                 .norms = decoder_norms(batch),
                 .scale = std::vector<float>(batch.latents),
                 .gate_bias = batch.weights.encoder_bias.const_data_ptr<float>(),
                 .magnitude_bias = batch.weights.magnitude_bias.const_data_ptr<float>(),
                 .weight = float(options.sparsity / double(batch.size))};
  for (int64_t i = 0; i < batch.latents; ++i)
    rule.scale[i] = std::exp(batch.weights.magnitude_scale.const_data_ptr<float>()[i]);
  const auto trains = options.gated_auxiliary_trains_decoder ? Auxiliary::trains_decoder
                                                             : Auxiliary::trains_encoder;
  const ElementwiseResult computed = elementwise_objective(rule, batch, options, trains, gradients);
  at::Tensor decoded = computed.main.gradient;
  if (trains == Auxiliary::trains_decoder) decoded = decoded + computed.auxiliary.gradient;
  add_norm_gradients(batch, computed.sums, gradients);
  finish_gradients(batch, computed.sums, decoded, gradients);
  finish_result(batch, computed.sums, result);
  result.reconstruction = computed.main.error / double(batch.size);
  result.auxiliary = computed.auxiliary.error / double(batch.size);
  result.loss = result.reconstruction + result.sparsity + result.auxiliary;
}

}  // namespace vyx::sae
