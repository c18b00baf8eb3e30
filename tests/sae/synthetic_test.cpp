#include "tests/torch_support.h"

#include "tests/sae/synthetic.h"

namespace {

using namespace vyx::test;

/// Strengths a of many batches [rows, features].
at::Tensor strengths(const Synthetic& data, uint64_t batches) {
  std::vector<at::Tensor> parts;
  for (uint64_t step = 0; step < batches; ++step) parts.push_back(data.rows(step).a);
  return at::cat(parts);
}

}  // namespace

TEST_CASE("[sae.synthetic] rows are sums of the planted features, a function of seed and step") {
  const Synthetic data({.seed = 3, .features = 20, .width = 8, .batch = 16, .bias = 2});
  const auto [x, a] = data.rows(5);
  CHECK(x.equal(
      Synthetic({.seed = 3, .features = 20, .width = 8, .batch = 16, .bias = 2}).rows(5).x));
  CHECK_FALSE(x.equal(data.rows(6).x));
  CHECK_FALSE(x.equal(
      Synthetic({.seed = 4, .features = 20, .width = 8, .batch = 16, .bias = 2}).rows(5).x));
  const at::Tensor bias = (x - a.matmul(data.features()))[0];
  CHECK(bias.norm().item<double>() == doctest::Approx(2).epsilon(1e-4));
  CHECK(x.allclose(a.matmul(data.features()) + bias, 1e-4, 1e-4));
  CHECK(data.features().norm(2, {1}).allclose(at::ones({20})));
}

TEST_CASE("[sae.synthetic] features fire as often as Zipf says, correlated or not") {
  for (const int64_t rank : {0, 5}) {
    CAPTURE(rank);
    const Synthetic data({.features = 50,
                          .batch = 4096,
                          .zipf = 1,
                          .most_frequent = .3,
                          .least_frequent = .02,
                          .correlation_rank = rank});
    const at::Tensor fired = (strengths(data, 10) > 0).to(at::kDouble);
    CHECK(data.probabilities()[0].item<double>() == doctest::Approx(.3));
    CHECK(data.probabilities()[49].item<double>() == doctest::Approx(.02));
    CHECK((fired.mean(0) - data.probabilities()).abs().max().item<double>() < 0.01);
  }
}

TEST_CASE("[sae.synthetic] correlation makes features fire together and apart") {
  const auto largest = [](int64_t rank) {
    const Synthetic data({.features = 30,
                          .batch = 4096,
                          .least_frequent = .2,
                          .correlation_rank = rank,
                          .correlation_scale = 0.3});
    const at::Tensor c =
        at::corrcoef((strengths(data, 10) > 0).to(at::kDouble).t());  // [features, features]
    return (c - at::eye(30)).abs().max().item<double>();
  };
  CHECK(largest(0) < 0.03);
  CHECK(largest(4) > 0.1);
}

TEST_CASE("[sae.synthetic] children fire only with their parent, one at a time") {
  const Synthetic data({.features = 60,
                        .batch = 4096,
                        .most_frequent = .5,
                        .least_frequent = .3,
                        .roots = 2,
                        .branching = 3,
                        .depth = 2});
  const at::Tensor fired = strengths(data, 4) > 0;                   // [rows, features]
  const at::Tensor parents = data.parents();                         // [features]
  const at::Tensor children = at::nonzero(parents >= 0).squeeze(1);  // [children]
  REQUIRE(children.size(0) == 2 * (3 + 9));
  const at::Tensor orphans = fired.index_select(1, children) &
                             fired.index_select(1, parents.index({children})).logical_not();
  CHECK(orphans.sum().item<int64_t>() == 0);
  const at::Tensor families =
      at::zeros({fired.size(0), 60}, at::kLong)
          .index_add(1, parents.index({children}), fired.index_select(1, children).to(at::kLong));
  CHECK(families.max().item<int64_t>() == 1);
  CHECK((fired.index_select(1, children).sum(0) > 0).all().item<bool>());
}
