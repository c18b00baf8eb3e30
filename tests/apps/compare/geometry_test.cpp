#include "tests/torch_support.h"

#include "apps/compare/geometry.h"

#include <cmath>

#include "tests/test_support.h"

using namespace vyx::compare;
using doctest::Approx;

namespace {

at::Tensor rows(std::vector<std::vector<double>> values) {
  std::vector<at::Tensor> tensors;
  for (const auto& row : values) tensors.push_back(at::tensor(row, at::kDouble));
  return at::stack(tensors);
}

}  // namespace

TEST_CASE("[compare.geometry] a control vector does not vary over tokens, an implicit vector may") {
  const ImplicitVector constant = summarise(rows({{3, 4}, {3, 4}}));
  CHECK(constant.varying == Approx(0));
  CHECK(constant.mean_norm == Approx(5));
  const ImplicitVector opposite = summarise(rows({{1, 0}, {-1, 0}}));
  CHECK(opposite.varying == Approx(1));
  // Σ‖v‖² = 10, n·‖v̄‖² = 2·(4 + 0) = 8.
  CHECK(summarise(rows({{3, 0}, {1, 0}})).varying == Approx(.2));
}

TEST_CASE("[compare.geometry] a vector of two decoder rows is found in the dictionary") {
  const Dictionary dictionary(rows({{2, 0, 0, 0}, {0, 5, 0, 0}, {0, 0, 1, 0}}));
  const DictionaryFit fit = dictionary.fit(at::tensor({3.0, -4.0, 0.0, 0.0}, at::kDouble));
  CHECK(fit.nearest[0].latent == 1);
  CHECK(fit.nearest[0].cosine == Approx(-.8));
  CHECK(fit.nearest[1].latent == 0);
  CHECK(fit.rows_for_half == 1);  // .64
  CHECK(fit.rows_for_most == 2);
  CHECK(fit.outside_span == Approx(0));
  CHECK(fit.outside_nearest == Approx(0));
}

TEST_CASE("[compare.geometry] what the decoder cannot write is outside its span") {
  const Dictionary dictionary(rows({{1, 0, 0}, {0, 1, 0}}));
  const DictionaryFit fit = dictionary.fit(at::tensor({1.0, 0.0, 2.0}, at::kDouble));
  CHECK(fit.outside_span == Approx(.8));
  CHECK_FALSE(fit.rows_for_half.has_value());
  CHECK_FALSE(fit.rows_for_most.has_value());
}

TEST_CASE("[compare.geometry] a direction has no cosine with nothing") {
  CHECK(std::isnan(cosine(at::zeros({2}), at::ones({2}))));
  CHECK(cosine(at::tensor({3.0, 4.0}), at::tensor({4.0, 3.0})) == Approx(.96));
}
