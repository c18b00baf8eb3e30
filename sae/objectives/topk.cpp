// TopK and BatchTopK: what fires is chosen by rank, so that the loss is the reconstruction's alone:
//
//     Σ over prefixes of E‖x − x̂‖² + α·Var(x)·E‖e − ê‖² / Var(e)
//
// AuxK: ê is the reconstruction of the error e = x − x̂ by the k_aux largest of the latents that
// are dead, without b_dec, and e is a constant (Gao et al. 2024, arXiv:2406.04093, appendix A.2).
// There both errors are over the variance of what they reconstruct; this is Var(x) times that, so
// that the loss without AuxK is in the units of the other architectures.
// Matryoshka: each prefix of the dictionary reconstructs on its own, and the losses are summed,
// not averaged, as in the paper (Bussmann et al. 2025, arXiv:2503.17547) and in SAELens.
#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include "sae/objectives/batch.h"
#include "sae/objectives/elementwise.h"

namespace vyx::sae {
namespace {

struct RankedRule {
  bool counts;  // firings

  float activation(int64_t, float z) const { return z; }

  float backward(int64_t, float, float df, float, LatentSums& sums) const {
    sums.bias += df;
    sums.product += df;
    sums.fired += counts;
    return df;
  }
};

/// The k largest of each token's dead latents.
SparseCode select_dead(const Batch& batch, const at::Tensor& dead, int64_t k, Products products) {
  const at::Tensor ids = dead.nonzero().view(-1);  // [dead]
  const Preactivations all(batch.centered, batch.weights.encoder.index_select(0, ids),
                           batch.weights.encoder_bias.index_select(0, ids), products);
  SparseCode code = select_topk(all, std::min(k, ids.size(0)));
  code.latents = batch.latents;
  for (int32_t& index : code.indices) index = int32_t(ids.const_data_ptr<int64_t>()[index]);
  return code;
}

}  // namespace

void topk_objective(const AutoencoderConfig& config, const Batch& batch, const at::Tensor& dead,
                    const ObjectiveOptions& options, ObjectiveResult& result,
                    Parameters& gradients) {
  const auto size = double(batch.size);
  const Products products = choose_products(options.bfloat16);
  const bool over_batch = config.architecture == Architecture::batch_topk;
  const SparseCode code = [&] {
    // Until the encoder's gradient is written, its place holds the packed encoder.
    const Preactivations all(batch.centered, batch.weights.encoder, batch.weights.encoder_bias,
                             products, gradients.encoder);
    return over_batch ? select_batch_topk(all, config.k * batch.size) : select_topk(all, config.k);
  }();
  std::vector<LatentSums> sums(batch.latents);
  const std::vector<int64_t> prefixes =
      config.prefixes.empty() ? std::vector<int64_t>{batch.latents} : config.prefixes;
  const Reconstruction main =
      reconstruct(code, code.values.data(), batch.weights.decoder, batch.base, batch.target,
                  prefixes, residual_scale(batch));
  sparse_gradients(RankedRule{.counts = true}, batch, code, main, nullptr,
                   Auxiliary::trains_encoder, false, sums, gradients);

  if (options.auxiliary > 0 && dead.defined() && dead.any().item<bool>()) {
    const at::Tensor error =
        main.gradients.select(0, -1) * (-1 / residual_scale(batch));  // e [batch, d_out]
    const double variance = variance_of(error);
    if (variance > 0) {
      const double weight = options.auxiliary * result.variance / variance;
      const int64_t k =
          options.auxiliary_k > 0 ? options.auxiliary_k : std::max<int64_t>(1, config.d_in / 2);
      const SparseCode spare = select_dead(batch, dead, k, products);
      const Reconstruction auxiliary =
          reconstruct(spare, spare.values.data(), batch.weights.decoder, {}, error, {batch.latents},
                      float(weight) * residual_scale(batch));
      result.auxiliary = weight * auxiliary.errors[0] / size;
      sparse_gradients(RankedRule{.counts = false}, batch, spare, auxiliary, nullptr,
                       Auxiliary::trains_encoder, true, sums, gradients);
    }
  }

  finish_gradients(batch, sums, main.gradients[0], gradients);
  finish_result(batch, sums, result);
  result.reconstruction = main.errors.back() / size;
  result.loss = result.auxiliary;
  for (const double error : main.errors) result.loss += error / size;
  if (over_batch && code.entries() > 0)
    result.lowest_activation = *std::min_element(code.values.begin(), code.values.end());
}

}  // namespace vyx::sae
