#include "sae/metrics/metrics.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "core/base/error.h"
#include "core/base/json_number.h"

namespace vyx::sae {
namespace {

constexpr int64_t kRows = 64;            // of a tile
constexpr int64_t kColumns = 128;        // of a tile, for sums over rows
constexpr int64_t kTokensEncoded = 512;  // whose latents are dense at a time

struct RowSums {
  double target = 0, reconstruction = 0, product = 0, error = 0;
};

RowSums row_sums(const float* x, const float* y, int64_t width) {
  RowSums sums;
  for (int64_t i = 0; i < width; ++i) {
    const double a = x[i], b = y[i], e = a - b;
    sums.target += a * a;
    sums.reconstruction += b * b;
    sums.product += a * b;
    sums.error += e * e;
  }
  return sums;
}

at::Tensor floats(const at::Tensor& tensor) {
  return tensor.to(at::kCPU, at::kFloat).contiguous();
}

}  // namespace

MetricsAccumulator::MetricsAccumulator(int64_t width, int64_t latents)
    : sum_(width), latents_(LatentStatistics::empty(latents)) {}

void MetricsAccumulator::add(const at::Tensor& target, const at::Tensor& reconstruction,
                             const at::Tensor& f) {
  const auto width = static_cast<int64_t>(sum_.size());
  if (target.dim() != 2 || target.size(1) != width || reconstruction.sizes() != target.sizes() ||
      f.dim() != 2 || f.size(0) != target.size(0) || f.size(1) != latents_.firings.size(0)) {
    fail(
        "a target [{}], a reconstruction [{}] and latents [{}]; expected [tokens, {}] twice and "
        "[tokens, {}]",
        fmt::join(target.sizes(), ", "), fmt::join(reconstruction.sizes(), ", "),
        fmt::join(f.sizes(), ", "), width, latents_.firings.size(0));
  }
  const at::NoGradGuard no_grad;
  const int64_t tokens = target.size(0);
  if (tokens == 0) return;
  const at::Tensor x = floats(target), y = floats(reconstruction);  // [tokens, d]
  const float* x_data = x.const_data_ptr<float>();
  const float* y_data = y.const_data_ptr<float>();

  std::vector<RowSums> rows(tokens);
  at::parallel_for(0, tokens, kRows, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t)
      rows[t] = row_sums(x_data + t * width, y_data + t * width, width);
  });
  for (const RowSums& row : rows) {
    target_ += row.target;
    reconstruction_ += row.reconstruction;
    product_ += row.product;
    error_ += row.error;
    if (row.target == 0) continue;
    ++with_norm_;
    error_ratio_ += row.error / row.target;
    norm_ratio_ += std::sqrt(row.reconstruction / row.target);
    if (row.reconstruction > 0)
      cosine_ += row.product / (std::sqrt(row.target) * std::sqrt(row.reconstruction));
  }
  at::parallel_for(0, width, kColumns, [&](int64_t begin, int64_t end) {
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t i = begin; i < end; ++i) sum_[i] += x_data[t * width + i];
    }
  });
  sae::add(latents_, f);
}

Metrics MetricsAccumulator::metrics() const {
  if (latents_.tokens == 0) fail("no activation was measured; expected at least one row");
  const auto n = static_cast<double>(latents_.tokens), with_norm = static_cast<double>(with_norm_);
  const int64_t latents = latents_.firings.size(0);
  double mean_norm = 0;  // ‖E x‖²
  for (const double sum : sum_) mean_norm += (sum / n) * (sum / n);

  Metrics result{.tokens = latents_.tokens,
                 .mse = error_ / n,
                 .explained_variance = 1 - (error_ / n) / (target_ / n - mean_norm),
                 .normalized_mse = error_ratio_ / with_norm,
                 .cosine = cosine_ / with_norm,
                 .l2_ratio = norm_ratio_ / with_norm,
                 .relative_reconstruction_bias = reconstruction_ / product_};
  const auto bins = static_cast<int64_t>(result.density.latents.size());
  const int64_t* firings = latents_.firings.const_data_ptr<int64_t>();
  int64_t total = 0, dead = 0;
  for (int64_t latent = 0; latent < latents; ++latent) {
    total += firings[latent];
    dead += firings[latent] == 0;
    const double density = std::log10(static_cast<double>(firings[latent]) / n + 1e-10);
    const double place = (density - DensityHistogram::kLowest) /
                         (DensityHistogram::kHighest - DensityHistogram::kLowest);
    ++result.density.latents[std::clamp<int64_t>(
        static_cast<int64_t>(place * static_cast<double>(bins)), 0, bins - 1)];
  }
  result.l0 = static_cast<double>(total) / n;
  result.dead_fraction = static_cast<double>(dead) / static_cast<double>(latents);
  return result;
}

void add(MetricsAccumulator& accumulator, const Autoencoder& sae, const at::Tensor& x,
         const at::Tensor& target) {
  const at::NoGradGuard no_grad;
  const at::Tensor& goal = target.defined() ? target : x;
  for (int64_t first = 0; first < x.size(0); first += kTokensEncoded) {
    const at::Tensor part = x.slice(0, first, first + kTokensEncoded);
    const at::Tensor f = encode(sae, part);  // [part, latents]
    accumulator.add(goal.slice(0, first, first + kTokensEncoded), decode(sae, f, part), f);
  }
}

Json to_json(const Metrics& metrics) {
  return {{"tokens", metrics.tokens},
          {"mse", number_or_null(metrics.mse)},
          {"explained_variance", number_or_null(metrics.explained_variance)},
          {"normalized_mse", number_or_null(metrics.normalized_mse)},
          {"cosine", number_or_null(metrics.cosine)},
          {"l2_ratio", number_or_null(metrics.l2_ratio)},
          {"relative_reconstruction_bias", number_or_null(metrics.relative_reconstruction_bias)},
          {"l0", number_or_null(metrics.l0)},
          {"dead_fraction", number_or_null(metrics.dead_fraction)},
          {"density_histogram",
           {{"lowest", DensityHistogram::kLowest},
            {"highest", DensityHistogram::kHighest},
            {"latents", metrics.density.latents}}}};
}

std::string to_text(const Metrics& metrics) {
  std::string text = fmt::format("{:<30} {:>9}\n", "rows", metrics.tokens);
  for (const auto& [what, value] :
       {std::pair{"explained variance", metrics.explained_variance},
        {"normalised MSE", metrics.normalized_mse},
        {"cosine", metrics.cosine},
        {"l2 ratio", metrics.l2_ratio},
        {"relative reconstruction bias", metrics.relative_reconstruction_bias}})
    text += fmt::format("{:<30} {:>9.4f}\n", what, value);
  text += fmt::format("{:<30} {:>9.2f}\n", "L0", metrics.l0);
  text += fmt::format("{:<30} {:>9.2f} %\n", "dead latents", 100 * metrics.dead_fraction);
  // By decades of the histogram, those below 1e-5 together.
  const auto& bins = metrics.density.latents;
  const size_t decade = bins.size() / 10;
  const auto count = [&](size_t first, size_t last) {  // of decades
    return std::accumulate(bins.begin() + first * decade, bins.begin() + last * decade, int64_t{0});
  };
  text += fmt::format("{:<24}", "latents by frequency");
  for (const char* below : {"never", "< 1e-5", "< 1e-4", "< 1e-3", "< 0.01", "< 0.1", "<= 1"})
    text += fmt::format(" {:>8}", below);
  text += fmt::format("\n{:<24} {:>8} {:>8}", "", count(0, 1), count(1, 5));
  for (size_t d = 5; d < 10; ++d) text += fmt::format(" {:>8}", count(d, d + 1));
  return text + "\n";
}

}  // namespace vyx::sae
