#include "tests/torch_support.h"

#include "apps/compare/latents.h"

#include <array>
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
  const sae::Autoencoder sae = coordinates(5);
  at::Tensor positive = at::zeros({4, 5}), negative = at::zeros({4, 5});
  positive.select(1, 0).fill_(1);  // the best reader
  positive.select(1, 1).slice(0, 0, 2).fill_(1);
  negative.select(1, 2).fill_(1);  // the other side's
  const at::Tensor slope = at::tensor({0.1, 0.0, -1.0, 0.5, 9.0}, at::kDouble);
  const at::Tensor largest = at::tensor({1.0f, 1.0f, 1.0f, 1.0f, 0.0f});
  CHECK(propose_latents(sae, positive, negative, slope, largest, 2) == std::vector<int64_t>{0, 3});
  const std::vector<int64_t> all = propose_latents(sae, positive, negative, slope, largest, 5);
  CHECK(std::set<int64_t>(all.begin(), all.end()) == std::set<int64_t>{0, 1, 3});
}

TEST_CASE("[compare.latents] random latents are different ones that fire") {
  at::Tensor largest = at::zeros({100});
  largest.slice(0, 20, 60).fill_(1);
  const std::vector<int64_t> chosen = random_latents(largest, 30, 1);
  CHECK(std::set<int64_t>(chosen.begin(), chosen.end()).size() == 30);
  for (const int64_t latent : chosen) CHECK((latent >= 20 && latent < 60));
  CHECK(chosen != random_latents(largest, 30, 2));
  CHECK(random_latents(largest, 90, 1).size() == 40);
}

TEST_CASE(
    "[compare.latents] latents are chosen by effect a root nat, measured once, under any labels") {
  int measured = 0;
  LatentScores scores([&](int64_t latent) -> LatentResponse {
    ++measured;
    switch (latent) {
      case 1:
        return {.shifts = {1, 1}, .kl = 1};  // 1
      case 2:
        return {.shifts = {4, 0}, .kl = 16};  // 0.5
      case 3:
        return {.shifts = {0.5, 0.7}, .kl = 0.04};  // 3
      default:
        return {.shifts = {0, 0}, .kl = 0};  // no effect, and no division by 0
    }
  });
  CHECK(scores(1) == doctest::Approx(1));
  CHECK(scores.ranked({0, 2, 1, 3}) == std::vector<int64_t>{3, 1, 2, 0});
  CHECK(scores.ranked({2, 3}) == std::vector<int64_t>{3, 2});
  CHECK(scores.ranked({3, 2, 1}, std::array{1.0, -1.0}) ==
        std::vector<int64_t>{2, 1, 3});  // -0.5, 0.5, 0
  CHECK(measured == 4);
}
