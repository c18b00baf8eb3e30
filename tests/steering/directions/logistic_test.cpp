#include "tests/torch_support.h"

#include "steering/directions/logistic.h"

#include <cmath>
#include <tuple>
#include <utility>

#include "tests/random_tensors.h"

using namespace vyx::steering;
using doctest::Approx;
using vyx::test::normal_doubles;

TEST_CASE("[steering.logistic] recovers a planted direction that the noise hides from the mean") {
  constexpr int64_t kRows = 400, kWidth = 12;
  // The sides differ along e0; along e1 they vary forty times as much.
  at::Tensor scale = at::ones({kWidth}, at::kDouble);
  scale[1] = 40;
  at::Tensor positive = normal_doubles({kRows, kWidth}, 1) * scale,
             negative = normal_doubles({kRows, kWidth}, 2) * scale;
  positive.select(1, 0).add_(2);
  negative.select(1, 0).sub_(2);
  const LogisticFit fit = fit_logistic(positive, negative, 1);
  const at::Tensor direction = fit.weights / fit.weights.norm();
  CHECK(direction[0].item<double>() > .97);
  CHECK(fit.iterations < 20);
  const at::Tensor mean = positive.mean(0) - negative.mean(0);
  CHECK((mean / mean.norm())[0].item<double>() < .9);
}

TEST_CASE("[steering.logistic] is where the gradient is zero, the intercept's too") {
  const at::Tensor positive = normal_doubles({30, 5}, 3) + 1, negative = normal_doubles({50, 5}, 4);
  constexpr double kRidge = .7;
  const LogisticFit fit = fit_logistic(positive, negative, kRidge);
  const at::Tensor p = (positive.mv(fit.weights) + fit.intercept).sigmoid(),
                   n = (negative.mv(fit.weights) + fit.intercept).sigmoid();
  const at::Tensor gradient =
      positive.t().mv(p - 1) + negative.t().mv(n) + kRidge * fit.weights;  // [5]
  CHECK(gradient.abs().max().item<double>() < 1e-8);
  CHECK(std::abs((p - 1).sum().item<double>() + n.sum().item<double>()) < 1e-6);
}

TEST_CASE("[steering.logistic] separable sides, and more columns than rows, have a fit") {
  const at::Tensor positive = normal_doubles({6, 40}, 5) + 3,
                   negative = normal_doubles({6, 40}, 6) - 3;
  const LogisticFit fit = fit_logistic(positive, negative, 1e-2);
  CHECK(fit.weights.isfinite().all().item<bool>());
  CHECK(log_loss(fit, positive, negative) < .05);
  CHECK(vyx::test::contains(vyx::test::error_of([&] { fit_logistic(positive, negative, 0); }),
                            "ridge of 0"));
}

TEST_CASE("[steering.logistic] without knowledge the loss is log 2") {
  const LogisticFit fit{.weights = at::zeros({3}, at::kDouble)};
  CHECK(log_loss(fit, normal_doubles({4, 3}, 7), normal_doubles({4, 3}, 8)) ==
        Approx(std::log(2.0)));
}

TEST_CASE("[steering.logistic] the method takes the ridge that serves the selection pairs best") {
  constexpr int64_t kRows = 30, kWidth = 20;
  const at::Tensor positive = 3 * normal_doubles({kRows, kWidth}, 9) + 1,
                   negative = 3 * normal_doubles({kRows, kWidth}, 10);
  const ContrastActivations selection{3 * normal_doubles({90, kWidth}, 11) + 1,
                                      3 * normal_doubles({90, kWidth}, 12)};
  const double norm = median_norm({positive, negative});
  const at::Tensor found =
      logistic({.pairs = {positive, negative}, .selection = selection}).direction;
  CHECK(found.norm().item<double>() == Approx(1));
  const double scale = std::sqrt(static_cast<double>(kWidth)) / norm;
  double least = 1e9;
  at::Tensor best;
  for (const double ridge : {1e-2, 1e-1, 1e0, 1e1, 1e2, 1e3}) {
    const LogisticFit fit = fit_logistic(positive * scale, negative * scale, ridge);
    const double loss = log_loss(fit, selection.positive * scale, selection.negative * scale);
    if (loss < least) std::tie(least, best) = std::pair(loss, fit.weights);
  }
  CHECK(at::allclose(found, best / best.norm(), 1e-9, 1e-12));
}

TEST_CASE("[steering.logistic] without selection pairs the method holds some out, and fits all") {
  const at::Tensor positive = 3 * normal_doubles({30, 20}, 9) + 1,
                   negative = 3 * normal_doubles({30, 20}, 10);
  const ContrastActivations pairs{positive, negative};
  const double scale = std::sqrt(20.0) / median_norm(pairs);
  const auto with_ridge = [&](double ridge) {
    const at::Tensor weights = fit_logistic(positive * scale, negative * scale, ridge).weights;
    return weights / weights.norm();
  };
  const at::Tensor found = logistic({.pairs = pairs}).direction;
  int equal = 0;
  for (const double ridge : {1e-2, 1e-1, 1e0, 1e1, 1e2, 1e3})
    equal += at::allclose(found, with_ridge(ridge), 1e-9, 1e-12);
  CHECK(equal == 1);
  CHECK_FALSE(at::allclose(found, with_ridge(1e-2), 1e-3, 1e-3));  // too little, for such noise
  const ContrastActivations few{positive.slice(0, 0, 9), negative.slice(0, 0, 9)};
  const double few_scale = std::sqrt(20.0) / median_norm(few);
  const at::Tensor weights =
      fit_logistic(few.positive * few_scale, few.negative * few_scale, 1).weights;
  CHECK(at::allclose(logistic({.pairs = few}).direction, weights / weights.norm(), 1e-9, 1e-12));
}

TEST_CASE("[steering.logistic] sides of the same rows give no direction") {
  const at::Tensor rows = normal_doubles({12, 4}, 13);
  CHECK(vyx::test::contains(logistic({.pairs = {rows, rows.flip(0)}}).degenerate, "guessing"));
}
