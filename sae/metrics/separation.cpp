#include "sae/metrics/separation.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "core/base/error.h"

namespace vyx::sae {
namespace {

/// The area under the curve of values with their side, from the ranks of the positive ones (Mann
/// and Whitney 1947).
template <class Number>
double area(std::vector<std::pair<Number, bool>>& values, double positives, double negatives) {
  std::sort(values.begin(), values.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  double wins = 0,
         below = 0;  // pairs (positive, negative) in order; negatives below the current value
  for (size_t begin = 0; begin < values.size();) {
    size_t end = begin;
    double tied_positives = 0, tied_negatives = 0;
    for (; end < values.size() && values[end].first == values[begin].first; ++end)
      (values[end].second ? tied_positives : tied_negatives) += 1;
    wins += tied_positives * (below + tied_negatives / 2);
    below += tied_negatives;
    begin = end;
  }
  return wins / (positives * negatives);
}

}  // namespace

Separation separation(const at::Tensor& positive, const at::Tensor& negative) {
  if (positive.dim() != 2 || negative.dim() != 2 || positive.size(1) != negative.size(1) ||
      positive.size(0) == 0 || negative.size(0) == 0)
    fail("separation: found latents [{}] and [{}], expected rows on both sides and one width",
         fmt::join(positive.sizes(), ", "), fmt::join(negative.sizes(), ", "));
  const int64_t p = positive.size(0), n = negative.size(0), latents = positive.size(1);
  // A latent's values side by side.
  const at::Tensor columns =
      at::cat({positive, negative}).to(at::kFloat).t().contiguous();  // [latents, p + n]
  at::Tensor auroc = at::empty({latents}, at::kFloat);
  const auto* values = columns.const_data_ptr<float>();
  auto* result = auroc.mutable_data_ptr<float>();
  at::parallel_for(0, latents, 64, [&](int64_t begin, int64_t end) {
    std::vector<std::pair<float, bool>> row(static_cast<size_t>(p + n));
    for (int64_t i = begin; i < end; ++i) {
      for (int64_t j = 0; j < p + n; ++j)
        row[static_cast<size_t>(j)] = {values[i * (p + n) + j], j < p};
      result[i] = static_cast<float>(area(row, static_cast<double>(p), static_cast<double>(n)));
    }
  });
  return {positive.mean({0}, false, at::kFloat) - negative.mean({0}, false, at::kFloat), auroc};
}

double auroc(std::span<const double> positive, std::span<const double> negative) {
  std::vector<std::pair<double, bool>> values;
  for (const double value : positive) values.emplace_back(value, true);
  for (const double value : negative) values.emplace_back(value, false);
  return area(values, static_cast<double>(positive.size()), static_cast<double>(negative.size()));
}

}  // namespace vyx::sae
