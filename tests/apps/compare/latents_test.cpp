#include "tests/torch_support.h"

#include "apps/compare/latents.h"

#include <set>

using namespace vyx;
using namespace vyx::compare;

namespace {

/// A ReLU autoencoder whose latent i is coordinate i.
sae::Autoencoder coordinates(int64_t width) {
  sae::Autoencoder sae;
  sae.config = {.architecture = sae::Architecture::relu,
                .d_in = width,
                .d_out = width,
                .latents = width,
                .sites = {"site:output"}};
  sae.weights.encoder = at::eye(width);
  sae.weights.encoder_bias = at::zeros({width});
  sae.weights.decoder = at::eye(width) * 3;
  sae.weights.decoder_bias = at::zeros({width});
  return sae;
}

}  // namespace

TEST_CASE(
    "[compare.latents] proposes by turns what reads the concept and what it slopes along, and "
    "nothing that never fires") {
  at::Tensor positive = at::zeros({4, 5}), negative = at::zeros({4, 5});
  positive.select(1, 0).fill_(1);  // the best reader
  positive.select(1, 1).slice(0, 0, 2).fill_(1);
  negative.select(1, 2).fill_(1);  // the other side's
  const at::Tensor slope = at::tensor({0.1, 0.0, -1.0, 0.5, 9.0}, at::kDouble);
  const Latents latents{coordinates(5), at::tensor({1.0f, 1.0f, 1.0f, 1.0f, 0.0f}), at::zeros({5})};
  CHECK(propose_latents(latents, positive, negative, slope, 2) == std::vector<int64_t>{0, 3});
  const std::vector<int64_t> all = propose_latents(latents, positive, negative, slope, 5);
  CHECK(std::set<int64_t>(all.begin(), all.end()) == std::set<int64_t>{0, 1, 3});
}

TEST_CASE("[compare.latents] how strongly latents fire is looked up over all rows") {
  const at::Tensor x = at::tensor({1.0f, -1.0f, 3.0f, 0.0f, 2.0f, -2.0f}).view({3, 2});
  const Latents latents = latents_over(coordinates(2), x);
  CHECK(at::equal(latents.largest, at::tensor({3.0f, 0.0f})));
  CHECK(at::allclose(latents.mean, at::tensor({2.0f, 0.0f})));
  // Set to its largest, latent 0 rises by 1 on average and adds 3 along coordinate 0.
  const at::Tensor shifts = first_order_shifts(latents, at::tensor({0.5, 7.0}, at::kDouble));
  CHECK(at::allclose(shifts, at::tensor({1.5, 0.0}, at::kDouble)));
}
