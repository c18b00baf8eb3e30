#include "tests/torch_support.h"

#include "sae/metrics/separation.h"

#include <cmath>
#include <vector>

using namespace vyx::sae;
using vyx::test::contains;
using vyx::test::error_of;

TEST_CASE("[sae.separation] area and difference of latents, ties counting half") {
  const at::Tensor positive =
      at::tensor({3.0f, 0.0f, 1.0f, 2.0f, 0.0f, 0.0f}).view({2, 3});  // rows (3 0 1), (2 0 0)
  const at::Tensor negative = at::tensor({1.0f, 0.0f, 2.0f, 0.0f, 0.0f, 3.0f, 2.5f, 0.0f, 0.5f})
                                  .view({3, 3});  // (1 0 2), (0 0 3), (2.5 0 .5)
  const auto [difference, auroc] = separation(positive, negative);
  CHECK(auroc.allclose(at::tensor({5.0f / 6, 0.5f, 1.0f / 6})));
  CHECK(difference.allclose(at::tensor({2.5f - 3.5f / 3, 0.0f, 0.5f - 5.5f / 3})));
}

TEST_CASE("[sae.separation] random latents are near a half, and many latents are as each alone") {
  at::manual_seed(3);
  const at::Tensor positive = at::randn({400, 150}), negative = at::randn({300, 150});
  const at::Tensor auroc = separation(positive, negative).auroc;  // [150]
  CHECK((auroc - 0.5).abs().max().item<double>() < 0.1);
  const at::Tensor above = (positive.unsqueeze(1) > negative.unsqueeze(0))
                               .to(at::kFloat)
                               .mean(at::IntArrayRef{0, 1});  // [150]
  CHECK(auroc.allclose(above, 0, 1e-5));
}

TEST_CASE("[sae.separation] the area of one number per activation counts ties half") {
  using Values = std::vector<double>;
  CHECK(auroc(Values{1, 2}, Values{0, 1}) == doctest::Approx(.875));
  CHECK(auroc(Values{1}, Values{1}) == doctest::Approx(.5));
  CHECK(auroc(Values{3, -1, 2}, Values{0}) == doctest::Approx(2.0 / 3));
  CHECK(std::isnan(auroc({}, Values{1})));
}

TEST_CASE("[sae.separation] a side without rows is refused") {
  CHECK(contains(error_of([] {
                   separation(at::zeros({0, 4}), at::zeros({2, 4}));
                 }),
                 "[0, 4] and [2, 4]"));
}
