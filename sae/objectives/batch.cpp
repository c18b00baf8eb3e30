#include "sae/objectives/batch.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <fmt/ranges.h>

#include <cmath>

#include "core/base/error.h"
#include "sae/kernels/preactivations.h"
#include "sae/kernels/sparse_kernels.h"
#include "sae/kernels/tiles.h"

namespace vyx::sae {
namespace {

constexpr int64_t kTokens = Preactivations::kTokens;
constexpr int64_t kLatents = 256;  // of a tile of sums over latents

at::Tensor checked(const at::Tensor& tensor, const char* what, int64_t rows, int64_t width) {
  if (!tensor.defined() || tensor.dim() != 2 || (rows > 0 && tensor.size(0) != rows) ||
      tensor.size(0) == 0 || tensor.size(1) != width)
    fail("objective: found {} of shape [{}], expected [{}, {}]", what,
         tensor.defined() ? fmt::join(tensor.sizes(), ", ") : fmt::join(at::IntArrayRef(), ", "),
         rows > 0 ? fmt::to_string(rows) : "batch", width);
  return tensor.to(at::kFloat).contiguous();
}

/// Σ_i weights[i]·rows[i] of rows [latents, d], in float64 over tiles.
std::vector<double> weighted_rows(const std::vector<float>& weights, const at::Tensor& rows) {
  const int64_t count = rows.size(0), d = rows.size(1);
  std::vector<float> parts(tiles_of(count, kLatents) * d);
  std::vector<int32_t> places(kLatents);
  for (int64_t i = 0; i < kLatents; ++i) places[i] = int32_t(i);
  parallel_ranges(count, kLatents, [&](int64_t begin, int64_t end) {
    weighted_sum(parts.data() + begin / kLatents * d, d, weights.data() + begin, places.data(),
                 end - begin, rows.const_data_ptr<float>() + begin * d, false);
  });
  std::vector<double> total(d);
  for (size_t p = 0; p < parts.size(); ++p) total[p % d] += parts[p];
  return total;
}

void write(const at::Tensor& gradient, const std::vector<LatentSums>& sums,
           double LatentSums::*member) {
  auto* out = gradient.mutable_data_ptr<float>();
  for (size_t i = 0; i < sums.size(); ++i) out[i] = float(sums[i].*member);
}

}  // namespace

Batch::Batch(const Autoencoder& sae, const ObjectiveInput& input)
    : weights(sae.weights),
      size(input.x.defined() && input.x.dim() > 0 ? input.x.size(0) : 0),
      d_in(sae.config.d_in),
      d_out(sae.config.d_out),
      latents(sae.config.latents),
      x(checked(input.x, "x", 0, d_in)),
      centered(sae.config.subtract_decoder_bias ? x - weights.decoder_bias : x),
      target(input.target.defined() ? checked(input.target, "a target", size, d_out)
                                    : checked(x, "x without a target", size, d_out)),
      base(weights.decoder_bias),
      bias_subtracted(sae.config.subtract_decoder_bias) {
  sae.weights.visit([](const char* name, const at::Tensor& weight) {
    if (!weight.is_contiguous() || weight.scalar_type() != at::kFloat)
      fail("objective: found {} strided or in {}, expected contiguous float32", name,
           c10::toString(weight.scalar_type()));
  });
  if (weights.skip.defined()) {
    base = at::empty({size, d_out}, at::kFloat);
    parallel_ranges(size, kTokens, [&](int64_t begin, int64_t end) {
      at::Tensor rows = base.narrow(0, begin, end - begin);
      at::addmm_out(rows, weights.decoder_bias, x.narrow(0, begin, end - begin), weights.skip.t());
    });
  }
  const auto& config = sae.config;
  const auto count = std::max<int64_t>(
      1, int64_t((config.target_sites.empty() ? config.sites : config.target_sites).size()));
  if (d_out % count != 0)
    fail("objective: found {} sites for a width of {}, expected sites of one width", count, d_out);
  for (int64_t s = 0; s <= count; ++s) sites.push_back(s * (d_out / count));
}

std::vector<float> decoder_norms(const Batch& batch) {
  std::vector<float> norms(batch.latents);
  const float* rows = batch.weights.decoder.const_data_ptr<float>();
  parallel_ranges(batch.latents, kLatents, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      double norm = 0;
      for (size_t s = 0; s + 1 < batch.sites.size(); ++s) {
        const float* part = rows + i * batch.d_out + batch.sites[s];
        norm += std::sqrt(dot(part, part, batch.sites[s + 1] - batch.sites[s]));
      }
      norms[i] = float(norm);
    }
  });
  return norms;
}

void add_norm_gradients(const Batch& batch, const std::vector<LatentSums>& sums,
                        Parameters& gradients) {
  const float* rows = batch.weights.decoder.const_data_ptr<float>();
  auto* out = gradients.decoder.mutable_data_ptr<float>();
  parallel_ranges(batch.latents, kLatents, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      for (size_t s = 0; s + 1 < batch.sites.size(); ++s) {
        const int64_t start = i * batch.d_out + batch.sites[s],
                      width = batch.sites[s + 1] - batch.sites[s];
        const double norm = std::sqrt(dot(rows + start, rows + start, width));
        if (norm == 0 || sums[i].norm == 0) continue;  // of a row of zeros, the subgradient 0
        const auto factor = float(sums[i].norm / norm);
        const int32_t first = 0;
        weighted_sum(out + start, width, &factor, &first, 1, rows + start, true);
      }
  });
}

RowSums row_sums(const at::Tensor& rows) {
  const int64_t count = rows.size(0), d = rows.size(1);
  std::vector<double> parts(tiles_of(count, kTokens) * d);
  RowSums sums{.columns = std::vector<double>(d)};
  sums.squares = parallel_sum(count, kTokens, [&](int64_t begin, int64_t end) {
    return add_rows(parts.data() + begin / kTokens * d, rows.const_data_ptr<float>() + begin * d,
                    end - begin, d);
  });
  for (size_t p = 0; p < parts.size(); ++p) sums.columns[p % d] += parts[p];
  return sums;
}

double variance_of(const at::Tensor& rows) {
  const RowSums sums = row_sums(rows);
  const auto count = double(rows.size(0));
  double variance = sums.squares / count;
  for (const double column : sums.columns) variance -= column / count * (column / count);
  return variance;
}

void finish_gradients(const Batch& batch, const std::vector<LatentSums>& sums,
                      const at::Tensor& reconstruction, Parameters& gradients) {
  write(gradients.encoder_bias, sums, &LatentSums::bias);
  if (gradients.threshold.defined()) write(gradients.threshold, sums, &LatentSums::threshold);
  if (gradients.magnitude_scale.defined())
    write(gradients.magnitude_scale, sums, &LatentSums::magnitude_scale);
  if (gradients.magnitude_bias.defined())
    write(gradients.magnitude_bias, sums, &LatentSums::magnitude_bias);

  std::vector<double> bias = row_sums(reconstruction).columns;  // [d_out]
  if (batch.bias_subtracted) {
    std::vector<float> products;
    for (const LatentSums& sum : sums) products.push_back(float(sum.product));
    const std::vector<double> through_encoder = weighted_rows(products, batch.weights.encoder);
    for (int64_t c = 0; c < batch.d_out; ++c) bias[c] -= through_encoder[c];
  }
  for (int64_t c = 0; c < batch.d_out; ++c)
    gradients.decoder_bias.mutable_data_ptr<float>()[c] = float(bias[c]);

  if (gradients.skip.defined())
    parallel_ranges(batch.d_out, kTokens, [&](int64_t begin, int64_t end) {
      at::Tensor rows = gradients.skip.narrow(0, begin, end - begin);
      at::mm_out(rows, reconstruction.narrow(1, begin, end - begin).t(), batch.x);
    });
}

void finish_result(const Batch& batch, const std::vector<LatentSums>& sums,
                   ObjectiveResult& result) {
  result.firings = at::empty({batch.latents}, at::kLong);
  auto* firings = result.firings.mutable_data_ptr<int64_t>();
  double fired = 0;
  for (int64_t i = 0; i < batch.latents; ++i) {
    firings[i] = sums[i].fired;
    fired += double(sums[i].fired);
    result.sparsity += sums[i].sparsity;
    result.auxiliary += sums[i].auxiliary;
  }
  result.l0 = fired / double(batch.size);
}

}  // namespace vyx::sae
