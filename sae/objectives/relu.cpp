// ReLU with a penalty on each latent times its decoder row's norm, so that no norm need be
// constrained (Anthropic, April 2024):
//
//     E‖x − x̂‖² + λ·E Σ f_i n_i
#include "sae/objectives/batch.h"
#include "sae/objectives/elementwise.h"

namespace vyx::sae {
namespace {

struct ReluRule {
  static constexpr bool kIdentity = true;
  static constexpr bool kAuxiliary = false;
  std::vector<float> lower, norms;
  float weight;  // λ / batch

  float activation(int64_t, float z) const { return z; }

  float backward(int64_t i, float z, float df, float, LatentSums& sums) const {
    const float dz = df + weight * norms[i];
    sums.bias += dz;
    sums.product += dz;
    sums.norm += double(weight) * z;
    sums.sparsity += double(weight) * z * norms[i];
    ++sums.fired;
    return dz;
  }
};

}  // namespace

void relu_objective(const Batch& batch, const ObjectiveOptions& options, ObjectiveResult& result,
                    Parameters& gradients) {
  const ReluRule rule{.lower = std::vector<float>(batch.latents),
                      .norms = decoder_norms(batch),
                      .weight = float(options.sparsity / double(batch.size))};
  const ElementwiseResult computed =
      elementwise_objective(rule, batch, options, Auxiliary::trains_encoder, gradients);
  add_norm_gradients(batch, computed.sums, gradients);
  finish_gradients(batch, computed.sums, computed.main.gradient, gradients);
  finish_result(batch, computed.sums, result);
  result.reconstruction = computed.main.error / double(batch.size);
  result.loss = result.reconstruction + result.sparsity;
}

}  // namespace vyx::sae
