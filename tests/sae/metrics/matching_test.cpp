#include "tests/torch_support.h"

#include "sae/metrics/matching.h"
#include "tests/random_tensors.h"

using namespace vyx::sae;
using namespace vyx::test;

TEST_CASE(
    "[sae.matching] a dictionary that is the features, shuffled, turned about and scaled, matches "
    "perfectly") {
  const at::Tensor features = normal({40, 16}, 0);
  const at::Tensor order =
      at::randperm(40, at::detail::createCPUGenerator(1), at::TensorOptions(at::kLong));
  const at::Tensor latents = features.index_select(0, order) * normal({40, 1}, 2);
  const Matching result = match(latents, features);
  CHECK(result.mean_matched_cosine == doctest::Approx(1).epsilon(1e-6));
  CHECK(result.mean_max_cosine == doctest::Approx(1).epsilon(1e-6));
  CHECK(result.uniqueness == 1);
  CHECK(result.matched.equal(order));
  CHECK(result.nearest.equal(order));
}

TEST_CASE("[sae.matching] figures by hand: two latents on one feature") {
  const at::Tensor features = at::eye(3, at::kFloat);
  // Nearest: 0, 0, 1. One to one, the second latent must leave feature 0 to the first.
  const at::Tensor latents =
      at::tensor({1.f, 0.f, 0.f, 0.8f, 0.f, 0.6f, 0.f, -2.f, 0.f}).view({3, 3});
  const Matching result = match(latents, features);
  CHECK(result.nearest.equal(at::tensor({0, 0, 1}, at::kLong)));
  CHECK(result.nearest_cosine.allclose(at::tensor({1.f, 0.8f, 1.f})));
  CHECK(result.matched.equal(at::tensor({0, 2, 1}, at::kLong)));
  CHECK(result.mean_matched_cosine == doctest::Approx((1 + 0.6 + 1) / 3));
  CHECK(result.mean_max_cosine == doctest::Approx((1 + 1 + 0.6) / 3));
  CHECK(result.uniqueness == doctest::Approx(2.0 / 3));
}

TEST_CASE("[sae.matching] more latents than features, and a dead latent of zeros") {
  const at::Tensor features = at::eye(2, at::kFloat);
  const at::Tensor latents = at::tensor({0.f, 0.f, 0.f, 1.f, 3.f, 3.f}).view({3, 2});
  const Matching result = match(latents, features);
  CHECK(result.matched.equal(at::tensor({-1, 1, 0}, at::kLong)));
  CHECK(result.mean_matched_cosine == doctest::Approx((1 + std::sqrt(0.5)) / 2));
  CHECK(result.nearest_cosine[0].item<float>() == 0);
}

TEST_CASE("[sae.matching] shapes that do not go together are an error") {
  CHECK(contains(error_of([] {
                   match(at::zeros({2, 3}), at::zeros({2, 4}));
                 }),
                 "[2, 3] to match with features of shape [2, 4]"));
  CHECK(contains(error_of([] { match(at::zeros({0, 3}), at::zeros({2, 3})); }), "none of them 0"));
}

TEST_CASE("[sae.matching] precision, recall and F1 count a latent's hits over batches") {
  DetectionCounter counter(at::tensor({1, 0, 1}, at::kLong));
  // Latent 0 fires at tokens 0, 1, 2 and its feature (1) at 1, 2, 3, 4; latent 1 never fires;
  // latent 2 fires where no feature is.
  const at::Tensor f =
      at::tensor({2.f, 0.f, 1.f, 1.f, 0.f, 0.f, 3.f, 0.f, 0.f, 0.f, 0.f, 0.f, 0.f, 0.f, 0.f})
          .view({5, 3});
  const at::Tensor a = at::tensor({1.f, 0.f, 0.f, 1.f, 0.f, 2.f, 0.f, 1.f, 0.f, 1.f}).view({5, 2});
  counter.add(f.slice(0, 0, 1), a.slice(0, 0, 1));
  counter.add(f.slice(0, 1), a.slice(0, 1));
  const Detection result = counter.result();
  CHECK(result.precision.allclose(at::tensor({2. / 3, 0., 0.}, at::kDouble)));
  CHECK(result.recall.allclose(at::tensor({2. / 4, 0., 0.}, at::kDouble)));
  CHECK(result.f1.allclose(at::tensor({4. / 7, 0., 0.}, at::kDouble)));
  CHECK(result.mean_f1 == doctest::Approx(4. / 21));
  CHECK(result.mean_precision == doctest::Approx(2. / 9));
  CHECK(result.mean_recall == doctest::Approx(1. / 6));
}
