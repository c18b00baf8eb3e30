#include "tests/torch_support.h"

#include "sae/latents/attribution.h"

#include "tests/sae/random_autoencoder.h"

using namespace vyx::sae;
using namespace vyx::test;

namespace {

/// A smooth metric of activations [tokens, d], in float64.
at::Tensor metric(const at::Tensor& x, const at::Tensor& weights) {
  return (x.to(at::kDouble) * weights).sin().sum();
}

}  // namespace

TEST_CASE(
    "[sae.latents.attribution] is the derivative of the metric by each latent's scale, the error "
    "kept") {
  constexpr int64_t kTokens = 6, kWidth = 12, kLatents = 20;
  for (const auto architecture :
       {Architecture::relu, Architecture::topk, Architecture::gated, Architecture::jump_relu}) {
    for (const auto normalization : {Normalization::none, Normalization::scale,
                                     Normalization::token_norm, Normalization::layer_norm}) {
      CAPTURE(name_of(architecture));
      CAPTURE(name_of(normalization));
      Autoencoder sae = random_autoencoder(architecture, kWidth, kLatents);
      sae.config.normalization = normalization;
      sae.config.scales = {0.7};
      at::manual_seed(5);
      const at::Tensor x = at::randn({kTokens, kWidth}), weights = at::randn({kWidth}, at::kDouble);
      const at::Tensor gradient = ((x.to(at::kDouble) * weights).cos() * weights).to(at::kFloat);
      const at::Tensor found = attribution(sae, x, gradient);  // [latents]

      const at::Tensor f = encode(sae, x), error = x - decode(sae, f, x);
      CHECK(f.count_nonzero().item<int64_t>() > 0);
      for (int64_t i = 0; i < kLatents; ++i) {
        constexpr double kStep = 1e-3;
        const auto scaled = [&](double scale) {
          at::Tensor changed = f.clone();
          changed.select(1, i).mul_(scale);
          return metric(decode(sae, changed, x) + error, weights).item<double>();
        };
        CHECK(found[i].item<double>() ==
              doctest::Approx((scaled(1 + kStep) - scaled(1 - kStep)) / (2 * kStep))
                  .epsilon(5e-3)
                  .scale(1));
      }
    }
  }
}

TEST_CASE("[sae.latents.attribution] shapes that do not fit are refused") {
  const Autoencoder sae = random_autoencoder(Architecture::relu, 8, 16);
  CHECK(contains(error_of([&] {
                   attribution(sae, at::zeros({3, 8}), at::zeros({4, 8}));
                 }),
                 "[3, 8]"));
}

TEST_CASE("[sae.latents.attribution] directions have norm 1, and a dead row stays") {
  Autoencoder sae = random_autoencoder(Architecture::relu, 8, 5);
  sae.weights.decoder[2].zero_();
  const at::Tensor directions = decoder_directions(sae), norms = directions.norm(2, {1});
  for (int64_t i = 0; i < 5; ++i) CHECK(norms[i].item<double>() == doctest::Approx(i == 2 ? 0 : 1));
  CHECK(directions[1].dot(sae.weights.decoder[1]).item<double>() ==
        doctest::Approx(sae.weights.decoder[1].norm().item<double>()));
}
