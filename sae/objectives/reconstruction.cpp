#include "sae/objectives/reconstruction.h"

#include <ATen/Functions.h>

#include <algorithm>

#include "sae/kernels/preactivations.h"
#include "sae/kernels/sparse_kernels.h"
#include "sae/kernels/tiles.h"

namespace vyx::sae {

const float* Reconstruction::gradients_of(int64_t latent) const {
  const auto group = std::upper_bound(prefixes.begin(), prefixes.end(), latent) - prefixes.begin();
  return gradients.const_data_ptr<float>() + group * gradients.size(1) * gradients.size(2);
}

Reconstruction reconstruct(const SparseCode& code, const float* f, const at::Tensor& decoder,
                           const at::Tensor& base, const at::Tensor& target,
                           const std::vector<int64_t>& prefixes, float scale) {
  const int64_t batch = target.size(0), d = target.size(1), tile = Preactivations::kTokens;
  const auto groups = int64_t(prefixes.size());
  Reconstruction result{.gradients = at::empty({groups, batch, d}, at::kFloat),
                        .latents = std::vector<float>(code.entries()),
                        .errors = std::vector<double>(groups),
                        .prefixes = prefixes};
  auto* gradients = result.gradients.mutable_data_ptr<float>();
  const float *rows = decoder.const_data_ptr<float>(), *targets = target.const_data_ptr<float>();
  const float* start = base.defined() ? base.const_data_ptr<float>() : nullptr;
  const int64_t start_stride = base.defined() && base.dim() == 2 ? d : 0;
  std::vector<double> errors(tiles_of(batch, tile) * groups);
  parallel_ranges(batch, tile, [&](int64_t begin, int64_t end) {
    std::vector<float> decoded(d);
    std::vector<int64_t> bounds(groups + 1);  // where each group's entries begin
    for (int64_t t = begin; t < end; ++t) {
      const auto row = code.indices.begin();
      bounds[0] = code.offsets[t];
      bounds[groups] = code.offsets[t + 1];
      for (int64_t g = 1; g < groups; ++g)
        bounds[g] =
            std::lower_bound(row + bounds[g - 1], row + bounds[groups], prefixes[g - 1]) - row;
      if (start)
        std::copy_n(start + t * start_stride, d, decoded.data());
      else
        std::fill(decoded.begin(), decoded.end(), 0);
      for (int64_t g = 0; g < groups; ++g) {
        weighted_sum(decoded.data(), d, f + bounds[g], code.indices.data() + bounds[g],
                     bounds[g + 1] - bounds[g], rows, true);
        float* gradient = gradients + (g * batch + t) * d;
        std::copy_n(decoded.data(), d, gradient);
        errors[begin / tile * groups + g] += residual(gradient, targets + t * d, d, scale);
      }
      for (int64_t g = groups; g-- > 0;) {
        float* gradient = gradients + (g * batch + t) * d;
        if (g + 1 < groups)
          for (int64_t c = 0; c < d; ++c) gradient[c] += gradient[batch * d + c];
        dots(result.latents.data() + bounds[g], gradient, d, code.indices.data() + bounds[g],
             bounds[g + 1] - bounds[g], rows);
      }
    }
  });
  for (size_t e = 0; e < errors.size(); ++e) result.errors[e % groups] += errors[e];
  return result;
}

}  // namespace vyx::sae
