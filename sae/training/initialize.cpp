#include "sae/training/initialize.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/base/error.h"
#include "sae/kernels/tiles.h"

namespace vyx::sae {
namespace {

at::Generator generator_of(uint64_t seed) {
  return at::make_generator<at::CPUGeneratorImpl>(seed);
}

/// Rows as unit vectors, rows of zeros as they are.
at::Tensor directions(const at::Tensor& rows) {
  return rows / rows.norm(2, {-1}, /*keepdim=*/true).clamp_min(1e-12);
}

/// `count` different indices, drawn in proportion to weights ≥ 0 [n]: the largest log(u)/weight
/// (Efraimidis and Spirakis 2006).
at::Tensor draw(const at::Tensor& weights, int64_t count, uint64_t seed) {
  const at::Tensor u = at::rand(weights.sizes(), generator_of(seed), at::kDouble).clamp_min(1e-300);
  return std::get<1>((u.log() / weights.to(at::kDouble).clamp_min(1e-300)).topk(count));
}

}  // namespace

Autoencoder initialize(const AutoencoderConfig& config, const InitializeOptions& options) {
  validate(config, "initialize");
  const int64_t latents = config.latents;
  const auto generator = generator_of(options.seed);
  Autoencoder sae{.config = config};
  Parameters& w = sae.weights;
  w.decoder = directions(at::randn({latents, config.d_out}, generator)) *
              options.decoder_norm;  // [latents, d_out]
  if (options.tied && config.d_in == config.d_out)
    w.encoder = w.decoder.clone();  // [latents, d_in]
  else
    w.encoder =
        (at::rand({latents, config.d_in}, generator) * 2 - 1) / std::sqrt(double(config.d_in));
  for_each_parameter(
      [&](const ParameterKind& kind, at::Tensor& tensor) {
        if (tensor.defined() || !belongs_to(kind, config.architecture)) return;
        if (!kind.optional || options.skip) tensor = at::zeros(shape_of(kind, config));
      },
      w);
  if (w.threshold.defined()) w.threshold.fill_(options.threshold);
  return sae;
}

at::Tensor geometric_median(const at::Tensor& rows) {
  if (rows.dim() != 2 || rows.size(0) == 0)
    fail("geometric median: found rows of shape [{}], expected [rows, d]",
         fmt::join(rows.sizes(), ", "));
  constexpr int64_t kTile = 256;
  const at::Tensor all = rows.to(at::kFloat).contiguous();
  const int64_t count = all.size(0), d = all.size(1), tiles = tiles_of(count, kTile);
  const float* x = all.const_data_ptr<float>();

  /// Σ weight(row)·row and Σ weight(row), summed in float64 by tiles.
  const auto weighted_mean = [&](auto&& weight) {
    std::vector<double> sums(tiles * d), weights(tiles), mean(d);
    parallel_ranges(count, kTile, [&](int64_t begin, int64_t end) {
      const int64_t tile = begin / kTile;
      for (int64_t r = begin; r < end; ++r) {
        const double w = weight(x + r * d);
        weights[tile] += w;
        for (int64_t c = 0; c < d; ++c) sums[tile * d + c] += w * x[r * d + c];
      }
    });
    double total = 0;
    for (const double w : weights) total += w;
    for (size_t s = 0; s < sums.size(); ++s) mean[s % d] += sums[s] / total;
    return mean;
  };
  const auto distance = [&](const std::vector<double>& a, const auto* b) {
    double squares = 0;
    for (int64_t c = 0; c < d; ++c) squares += (a[c] - b[c]) * (a[c] - b[c]);
    return std::sqrt(squares);
  };

  std::vector<double> median = weighted_mean([](const float*) { return 1.0; });
  const double scale = distance(median, x);
  for (int step = 0; step < 100; ++step) {
    // A row that the median has reached must not weigh infinitely.
    const std::vector<double> next = weighted_mean([&](const float* row) {
      return 1 / std::max(distance(median, row), 1e-9 * scale + 1e-30);
    });
    const double moved = distance(next, median.data());
    median = next;
    if (moved <= 1e-6 * scale) break;
  }
  return at::tensor(median).to(at::kFloat);
}

int64_t resample_dead(Autoencoder& sae, Adam& adam, const at::Tensor& x, const at::Tensor& target,
                      const at::Tensor& dead, const ResampleOptions& options) {
  Parameters& w = sae.weights;
  const at::Tensor targets = target.defined() ? target : x;  // [rows, d_out]
  const at::Tensor ids = dead.nonzero().view(-1).narrow(
      0, 0, std::min(dead.sum().item<int64_t>(), x.size(0)));  // [resampled]
  if (ids.size(0) == 0) return 0;
  Autoencoder plain = sae;  // x is normalised already
  plain.config.normalization = Normalization::none;
  const at::Tensor errors = (targets - reconstruct(plain, x)).norm(2, {-1});  // [rows]
  const at::Tensor rows = draw(errors, ids.size(0), options.seed);            // [resampled]
  const at::Tensor alive =
      w.encoder.index_select(0, dead.logical_not().nonzero().view(-1));  // [alive, d_in]
  const double norm = alive.size(0) > 0 ? alive.norm(2, {-1}).mean().item<double>() : 1;
  at::Tensor inputs = x.index_select(0, rows), outputs = targets.index_select(0, rows);
  if (sae.config.subtract_decoder_bias) {
    inputs = inputs - w.decoder_bias;
    outputs = outputs - w.decoder_bias;
  }
  w.encoder.index_copy_(0, ids, directions(inputs) * (options.encoder_scale * norm));
  w.decoder.index_copy_(0, ids, directions(outputs) * options.decoder_norm);
  for_each_parameter(
      [&](const ParameterKind& kind, at::Tensor& weight, at::Tensor& first, at::Tensor& second) {
        if (!weight.defined() || !is_per_latent(kind)) return;
        const bool is_matrix = kind.columns.has_value();  // its rows stand above
        if (!is_matrix) weight.index_fill_(0, ids, kind.positive ? options.threshold : 0);
        for (at::Tensor* moment : {&first, &second}) moment->index_fill_(0, ids, 0);
      },
      w, adam.first, adam.second);
  return ids.size(0);
}

}  // namespace vyx::sae
