#include "sae/latents/latent_rows.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "core/base/error.h"

namespace vyx::sae {

void LatentRows::add(const at::Tensor& f) {
  if (f.dim() != 2 || f.size(1) != latents_)
    fail("latents of shape [{}], expected [rows, {}]", fmt::join(f.sizes(), ", "), latents_);
  const at::Tensor places = f.nonzero();  // [entries, 2]
  const at::Tensor row = places.select(1, 0), latent = places.select(1, 1);
  row_.push_back(row + rows_);
  latent_.push_back(latent.clone());
  value_.push_back(f.index({row, latent}).to(at::kFloat));
  rows_ += f.size(0);
}

at::Tensor LatentRows::dense(int64_t first, int64_t last) const {
  at::Tensor result = at::zeros({rows_, last - first}, at::kFloat);
  for (size_t i = 0; i < row_.size(); ++i) {
    const at::Tensor inside = (latent_[i] >= first) & (latent_[i] < last);  // [entries]
    result.index_put_({row_[i].index({inside}), latent_[i].index({inside}) - first},
                      value_[i].index({inside}));
  }
  return result;
}

Separation separation(const LatentRows& positive, const LatentRows& negative) {
  if (positive.latents() != negative.latents())
    fail("separation: found rows of {} and of {} latents, expected one width", positive.latents(),
         negative.latents());
  constexpr int64_t kAtOnce = 4096;
  std::vector<at::Tensor> differences, aurocs;
  for (int64_t first = 0; first < positive.latents(); first += kAtOnce) {
    const int64_t last = std::min(positive.latents(), first + kAtOnce);
    const Separation part = separation(positive.dense(first, last), negative.dense(first, last));
    differences.push_back(part.difference);
    aurocs.push_back(part.auroc);
  }
  return {at::cat(differences), at::cat(aurocs)};
}

}  // namespace vyx::sae
