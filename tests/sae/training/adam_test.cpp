#include "sae/training/adam.h"

#include <torch/optim/adam.h>

#include "tests/sae/random_autoencoder.h"
#include "tests/torch_support.h"

using namespace vyx::sae;
using vyx::test::random_autoencoder;

namespace {

constexpr int64_t kWidth = 30, kLatents = 700;  // more than a tile's elements

Parameters clone(const Parameters& parameters) {
  return transformed(parameters, [](const at::Tensor& tensor) { return tensor.clone(); });
}

Parameters random_gradients(const Parameters& weights, uint64_t seed, double scale) {
  Parameters gradients = clone(weights);
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  gradients.visit([&](const char*, const at::Tensor& tensor) {
    tensor.copy_(at::randn(tensor.sizes(), generator) * scale);
  });
  return gradients;
}

std::vector<at::Tensor> list(const Parameters& p) {
  std::vector<at::Tensor> tensors;
  p.visit([&](const char*, const at::Tensor& tensor) { tensors.push_back(tensor); });
  return tensors;
}

double norm_of(const Parameters& p) {
  double squares = 0;
  for (const at::Tensor& tensor : list(p))
    squares += tensor.to(at::kDouble).square().sum().item<double>();
  return std::sqrt(squares);
}

}  // namespace

TEST_CASE(
    "[sae.adam] steps are those of torch's Adam, with gradients clipped by their norm together") {
  for (const double scale : {1e-4, 1.0}) {  // below and above the norm that is clipped
    Parameters weights = random_autoencoder(Architecture::gated, kWidth, kLatents).weights;
    std::vector<at::Tensor> expected = list(clone(weights));
    torch::optim::Adam torch_adam(expected, torch::optim::AdamOptions(3e-3).betas({0.9, 0.95}));
    Adam adam = make_adam(weights);
    for (uint64_t step = 0; step < 20; ++step) {
      Parameters gradients = random_gradients(weights, step, scale);
      const double norm = norm_of(gradients), factor = std::min(1.0, 1 / (norm + 1e-6));
      const auto all = list(gradients);
      for (size_t i = 0; i < all.size(); ++i) expected[i].mutable_grad() = all[i] * factor;
      torch_adam.step();
      CHECK(update(adam, weights, gradients, 3e-3, {.beta2 = 0.95}) ==
            doctest::Approx(norm).epsilon(1e-6));
    }
    CHECK(adam.steps == 20);
    const auto found = list(weights);
    for (size_t i = 0; i < found.size(); ++i)
      CHECK(at::allclose(found[i], expected[i], 1e-6, 1e-6));
  }
}

TEST_CASE(
    "[sae.adam] a unit-norm decoder keeps its norms, and its gradient loses what lies along its "
    "rows") {
  Parameters weights = random_autoencoder(Architecture::topk, kWidth, kLatents).weights;
  weights.decoder.div_(weights.decoder.norm(2, {-1}, true));
  Parameters along = clone(weights);  // a gradient that is only along the rows
  along.visit([](const char* name, const at::Tensor& tensor) {
    if (std::string_view(name) != "W_dec") tensor.zero_();
  });
  along.decoder.mul_(at::randn({kLatents, 1}, at::make_generator<at::CPUGeneratorImpl>(1)));
  Adam adam = make_adam(weights);
  const at::Tensor before = weights.decoder.clone();
  CHECK(update(adam, weights, along, 1e-2, {.unit_norm_decoder = true}) < 1e-4);
  Parameters gradients = random_gradients(weights, 2, 1);
  const at::Tensor across =
      gradients.decoder - (gradients.decoder * weights.decoder).sum(-1, true) * weights.decoder;
  Parameters projected = clone(gradients);
  projected.decoder.copy_(across);
  adam = make_adam(weights);
  const at::Tensor start = weights.decoder.clone();
  CHECK(update(adam, weights, gradients, 1e-2, {.clip_norm = 0, .unit_norm_decoder = true}) ==
        doctest::Approx(norm_of(projected)).epsilon(1e-6));
  CHECK(at::allclose(weights.decoder.norm(2, {-1}), at::ones({kLatents}), 1e-6, 1e-6));
  const at::Tensor stepped = start - 1e-2 * across / (across.abs() + 1e-8);  // Adam's first step
  CHECK(at::allclose(weights.decoder, stepped / stepped.norm(2, {-1}, true), 1e-4, 1e-5));
}

TEST_CASE("[sae.adam] thresholds are trained as their logarithms, at a rate of their own") {
  Parameters weights = random_autoencoder(Architecture::jump_relu, kWidth, kLatents).weights;
  Adam adam = make_adam(weights);
  at::Tensor logarithm = weights.threshold.to(at::kDouble).log(), first = at::zeros_like(logarithm),
             second = at::zeros_like(logarithm);
  for (int step = 1; step <= 5; ++step) {
    Parameters gradients = random_gradients(weights, 5 + step, 0);
    const at::Tensor gradient = gradients.threshold.to(at::kDouble) * logarithm.exp();  // of log θ
    first = 0.9 * first + 0.1 * gradient;
    second = 0.999 * second + 0.001 * gradient.square();
    logarithm = logarithm - 0.1 * 3 * first / (1 - std::pow(0.9, step)) /
                                ((second / (1 - std::pow(0.999, step))).sqrt() + 1e-8);
    update(adam, weights, gradients, 0.1, {.clip_norm = 0, .logarithm_rate = 3});
    CHECK(at::allclose(weights.threshold.to(at::kDouble), logarithm.exp(), 1e-4, 1e-6));
  }
  CHECK((weights.threshold > 0).all().item<bool>());
}
