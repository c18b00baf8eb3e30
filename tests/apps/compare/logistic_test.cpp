#include "tests/torch_support.h"

#include "apps/compare/logistic.h"

#include <cmath>

#include "tests/test_support.h"

using namespace vyx::compare;
using doctest::Approx;

namespace {

at::Tensor normal(at::IntArrayRef shape, uint64_t seed) {
  return at::randn(shape, at::detail::createCPUGenerator(seed), at::TensorOptions(at::kDouble));
}

}  // namespace

TEST_CASE("[compare.logistic] recovers a planted direction that the noise hides from the mean") {
  constexpr int64_t kRows = 400, kWidth = 12;
  // The sides differ along e0; along e1 they vary forty times as much.
  at::Tensor scale = at::ones({kWidth}, at::kDouble);
  scale[1] = 40;
  at::Tensor positive = normal({kRows, kWidth}, 1) * scale,
             negative = normal({kRows, kWidth}, 2) * scale;
  positive.select(1, 0).add_(2);
  negative.select(1, 0).sub_(2);
  const LogisticFit fit = fit_logistic(positive, negative, 1);
  const at::Tensor direction = fit.weights / fit.weights.norm();
  CHECK(direction[0].item<double>() > .97);
  CHECK(fit.iterations < 20);
  const at::Tensor mean = positive.mean(0) - negative.mean(0);
  CHECK((mean / mean.norm())[0].item<double>() < .9);
}

TEST_CASE("[compare.logistic] is where the gradient is zero, the intercept's too") {
  const at::Tensor positive = normal({30, 5}, 3) + 1, negative = normal({50, 5}, 4);
  constexpr double kRidge = .7;
  const LogisticFit fit = fit_logistic(positive, negative, kRidge);
  const at::Tensor p = (positive.mv(fit.weights) + fit.intercept).sigmoid(),
                   n = (negative.mv(fit.weights) + fit.intercept).sigmoid();
  const at::Tensor gradient =
      positive.t().mv(p - 1) + negative.t().mv(n) + kRidge * fit.weights;  // [5]
  CHECK(gradient.abs().max().item<double>() < 1e-8);
  CHECK(std::abs((p - 1).sum().item<double>() + n.sum().item<double>()) < 1e-6);
}

TEST_CASE("[compare.logistic] separable sides, and more columns than rows, have a fit") {
  const at::Tensor positive = normal({6, 40}, 5) + 3, negative = normal({6, 40}, 6) - 3;
  const LogisticFit fit = fit_logistic(positive, negative, 1e-2);
  CHECK(fit.weights.isfinite().all().item<bool>());
  CHECK(log_loss(fit, positive, negative) < .05);
  CHECK(vyx::test::contains(vyx::test::error_of([&] { fit_logistic(positive, negative, 0); }),
                            "ridge of 0"));
}

TEST_CASE("[compare.logistic] without knowledge the loss is log 2") {
  const LogisticFit fit{.weights = at::zeros({3}, at::kDouble)};
  CHECK(log_loss(fit, normal({4, 3}, 7), normal({4, 3}, 8)) == Approx(std::log(2.0)));
}
