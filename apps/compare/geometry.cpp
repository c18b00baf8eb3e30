#include "apps/compare/geometry.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace vyx::compare {
namespace {

constexpr int64_t kNearest = 5;
constexpr double kRankTolerance = 1e-10;  // of the largest eigenvalue of W_decᵀW_dec
constexpr double kRounding = 1e-12;

double energy(const at::Tensor& v) {
  return v.square().sum().item<double>();
}

}  // namespace

double cosine(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor x = a.to(at::kDouble), y = b.to(at::kDouble);
  const double norms = x.norm().item<double>() * y.norm().item<double>();
  return norms > 0 ? x.dot(y).item<double>() / norms : std::numeric_limits<double>::quiet_NaN();
}

ImplicitVector summarise(const at::Tensor& v) {
  const at::Tensor wide = v.to(at::kDouble);
  ImplicitVector summary{.mean = wide.mean(0),
                         .mean_norm = wide.norm(2, {1}).mean().item<double>()};
  const double all = energy(wide);
  if (all > 0)
    summary.varying =
        std::max(0.0, 1 - static_cast<double>(wide.size(0)) * energy(summary.mean) / all);
  return summary;
}

Dictionary::Dictionary(const at::Tensor& decoder) {
  const at::Tensor wide = decoder.detach().cpu().to(at::kDouble);  // [latents, d]
  rows_ = wide / wide.norm(2, {1}, true).clamp_min(kRounding);
  const auto [values, vectors] = at::linalg_eigh(wide.t().mm(wide));  // rising [d], [d, d]
  span_ = vectors.t().index({values > kRankTolerance * values[-1]}).contiguous();
}

DictionaryFit Dictionary::fit(const at::Tensor& vector, int64_t most_rows) const {
  const at::Tensor v = vector.to(at::kDouble);  // [d]
  const double all = energy(v);
  DictionaryFit fit;
  if (!(all > 0)) return fit;
  fit.outside_span = std::max(0.0, 1 - energy(span_.mv(v)) / all);

  const at::Tensor cosines = rows_.mv(v) / std::sqrt(all);  // [latents]
  const at::Tensor order = std::get<1>(cosines.abs().topk(std::min(kNearest, rows_.size(0))));
  for (int64_t i = 0; i < order.size(0); ++i) {
    const auto latent = order[i].item<int64_t>();
    fit.nearest.push_back({latent, cosines[latent].item<double>()});
  }
  const at::Tensor basis =
      std::get<0>(at::linalg_qr(rows_.index_select(0, order).t()));  // [d, nearest]
  fit.outside_nearest = std::max(0.0, 1 - energy(basis.t().mv(v)) / all);

  std::vector<at::Tensor> taken;  // orthonormal [d]
  at::Tensor residual = v;
  const int64_t limit = std::min({most_rows, rows_.size(0), v.size(0)});
  for (int64_t count = 1; count <= limit && !fit.rows_for_most; ++count) {
    at::Tensor next = rows_[rows_.mv(residual).abs().argmax().item<int64_t>()].clone();
    for (int pass = 0; pass < 2; ++pass)  // twice is enough (Giraud et al. 2005)
      for (const at::Tensor& earlier : taken) next = next - earlier * earlier.dot(next);
    const double norm = next.norm().item<double>();
    if (norm < kRounding) break;
    taken.push_back(next / norm);
    residual = residual - taken.back() * taken.back().dot(residual);
    const double explained = 1 - energy(residual) / all;
    if (explained >= 0.5 && !fit.rows_for_half) fit.rows_for_half = count;
    if (explained >= 0.9) fit.rows_for_most = count;
  }
  return fit;
}

}  // namespace vyx::compare
