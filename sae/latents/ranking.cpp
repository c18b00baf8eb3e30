#include "sae/latents/ranking.h"

#include <ATen/Functions.h>

#include <algorithm>
#include <cmath>

namespace vyx::sae {

std::vector<int64_t> descending(const at::Tensor& scores, const at::Tensor& ties) {
  const at::Tensor all = scores.to(at::kCPU, at::kDouble).contiguous();
  const at::Tensor second =
      ties.defined() ? ties.to(at::kCPU, at::kDouble).contiguous() : at::zeros_like(all);
  const auto* score = all.const_data_ptr<double>();
  const auto* tie = second.const_data_ptr<double>();
  std::vector<int64_t> order;
  for (int64_t i = 0; i < all.numel(); ++i)
    if (!std::isnan(score[i])) order.push_back(i);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return score[a] != score[b] ? score[a] > score[b] : tie[a] > tie[b];
  });
  return order;
}

std::vector<int64_t> places_in(const std::vector<int64_t>& order, int64_t latents) {
  std::vector<int64_t> places(static_cast<size_t>(latents));
  for (size_t i = 0; i < order.size(); ++i)
    places[static_cast<size_t>(order[i])] = static_cast<int64_t>(i) + 1;
  return places;
}

}  // namespace vyx::sae
