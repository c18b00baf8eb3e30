#include "tests/torch_support.h"

#include "steering/directions/principal_component.h"

#include <cmath>

namespace {

using namespace vyx::steering;
using vyx::test::contains;
using vyx::test::error_of;

at::Tensor rows(std::vector<std::vector<double>> values) {
  std::vector<at::Tensor> parts;
  for (const auto& row : values) parts.push_back(at::tensor(row, at::kDouble));
  return at::stack(parts);
}

// The direction of pairs whose differences are `d`: P = d + offset, N = offset.
Direction direction_of(const at::Tensor& d, Method method) {
  return find_direction(d + 0.5, at::full_like(d, 0.5), method, "site");
}

// Within the rounding of a float32 result.
bool near(const Direction& direction, std::vector<double> expected) {
  return at::allclose(direction.vector.to(at::kDouble), at::tensor(expected, at::kDouble), 1e-7,
                      1e-8);
}

at::Tensor normal_doubles(at::IntArrayRef shape, uint64_t seed) {
  at::Generator generator = at::detail::createCPUGenerator(seed);
  return at::randn(shape, generator, at::TensorOptions(at::kDouble));
}

}  // namespace

// Expected values: computed once with scikit-learn's PCA(svd_solver="full") and with torch.

TEST_CASE(
    "[steering.principal_component] equal first components: pca-center is the mean, pca-diff loses "
    "it") {
  const at::Tensor d = rows({{5, 1, 0}, {5, -1, 0}, {5, 2, 0}, {5, -2, 0}});
  CHECK(near(direction_of(d, Method::pca_center), {1, 0, 0}));
  CHECK(near(direction_of(d, Method::mean), {5, 0, 0}));
  const Direction diff = direction_of(d, Method::pca_diff);
  CHECK(near(diff, {0, 1, 0}));  // the vote is tied, so the largest component is positive
  CHECK(diff.statistics.sign_vote_margin == 0);
  CHECK(diff.statistics.eigengap == doctest::Approx(1));
}

TEST_CASE(
    "[steering.principal_component] a general case has scikit-learn's directions and eigenvalues") {
  const at::Tensor d =
      rows({{2, 1, 0, 1}, {3, 0, 1, 1}, {1, 2, -1, 0}, {2, 1, 1, 2}, {4, 1, 0, 1}});
  const Direction center = direction_of(d, Method::pca_center);
  CHECK(near(center, {0.882847958, 0.282316329, 0.108234701, 0.359391461}));
  CHECK(center.statistics.eigenvalues.at(0) == doctest::Approx(42.980245145).epsilon(1e-10));
  CHECK(center.statistics.sign_vote_margin == 1);
  const Direction diff = direction_of(d, Method::pca_diff);
  CHECK(near(diff, {0.674811087, -0.434041246, 0.490751794, 0.339707035}));
  CHECK(diff.statistics.eigenvalues.at(0) == doctest::Approx(8.153407763).epsilon(1e-9));
  CHECK(diff.statistics.sign_vote_margin == doctest::Approx(0.6));  // 80 to 20
  CHECK(near(direction_of(d, Method::mean), {2.4, 1, 0.2, 1}));
}

TEST_CASE("[steering.principal_component] the sign is voted, whatever the sign of the components") {
  const at::Tensor d = rows({{-6, 0, 2}, {-6, 0, -2}, {-5, 1, 0}, {-7, -1, 0}});
  const Direction center = direction_of(d, Method::pca_center);
  CHECK(near(center, {-0.99990356, -0.01388488, 0}));
  CHECK(center.statistics.sign_vote_margin == 1);
}

TEST_CASE(
    "[steering.principal_component] equal differences have a centre and a mean but no pca-diff") {
  const at::Tensor d = rows({{3, 4, 0}, {3, 4, 0}, {3, 4, 0}, {3, 4, 0}});
  CHECK(near(direction_of(d, Method::pca_center), {0.6, 0.8, 0}));
  CHECK(near(direction_of(d, Method::mean), {3, 4, 0}));
  const std::string error = error_of([&] { direction_of(d, Method::pca_diff); });
  CHECK(contains(error, "site: pca-diff finds no direction: all 4 differences are equal"));
  CHECK(contains(error, "use pca-center or mean"));
}

TEST_CASE(
    "[steering.principal_component] differences within rounding of the activations are no "
    "direction") {
  const at::Tensor p = normal_doubles({12, 6}, 1) * 100;
  for (const Method method : {Method::pca_center, Method::pca_diff, Method::mean}) {
    CAPTURE(name_of(method));
    CHECK(contains(error_of([&] { find_direction(p, p, method, "site"); }), "the same"));
    const at::Tensor noise = normal_doubles({12, 6}, 2) * 1e-6;
    CHECK(contains(error_of([&] { find_direction(p + noise, p, method, "site"); }), "the same"));
    CHECK(error_of([&] { find_direction(p + 1e4 * noise, p, method, "site"); }).empty());
  }
}

TEST_CASE(
    "[steering.principal_component] two equal eigenvalues are an error, two close ones a small "
    "eigengap") {
  CHECK(contains(error_of([&] {
                   direction_of(rows({{2, 0, 0}, {0, 2, 0}}), Method::pca_center);
                 }),
                 "equally well"));
  const Direction close = direction_of(rows({{2.001, 0, 0}, {0, 2, 0}}), Method::pca_center);
  CHECK(close.statistics.eigengap == doctest::Approx(1 - 4 / (2.001 * 2.001)));
}

TEST_CASE("[steering.principal_component] differences that cancel out have no mean") {
  const at::Tensor d = rows({{3, 1}, {-3, -1}, {3, 1}, {-3, -1}});
  CHECK(contains(error_of([&] { direction_of(d, Method::mean); }), "cancel out"));
  CHECK(near(direction_of(d, Method::pca_center), {3 / std::sqrt(10), 1 / std::sqrt(10)}));
}

TEST_CASE(
    "[steering.principal_component] the mean keeps its own sign, and its vote tells when most "
    "pairs disagree") {
  const Direction mean =
      direction_of(rows({{10, 0}, {-1, 0.5}, {-1, -0.5}, {-1, 0}}), Method::mean);
  CHECK(near(mean, {1.75, 0}));
  CHECK(mean.statistics.sign_vote_margin == -0.5);
}

TEST_CASE("[steering.principal_component] swapping the sides turns the direction round") {
  const at::Tensor p = normal_doubles({20, 7}, 3) + at::arange(7, at::kDouble),
                   n = normal_doubles({20, 7}, 4);
  for (const Method method : {Method::pca_center, Method::pca_diff, Method::mean}) {
    CAPTURE(name_of(method));
    const Direction forwards = find_direction(p, n, method, "site"),
                    backwards = find_direction(n, p, method, "site");
    CHECK(at::allclose(forwards.vector, -backwards.vector, 1e-6, 1e-6));
  }
}

TEST_CASE(
    "[steering.principal_component] more pairs than dimensions or fewer, the direction solves the "
    "eigenproblem") {
  for (const auto& [pairs, width] : {std::pair<int64_t, int64_t>{9, 40}, {40, 9}}) {
    CAPTURE(pairs);
    const at::Tensor d = normal_doubles({pairs, width}, 5) + 0.3;
    for (const Method method : {Method::pca_center, Method::pca_diff}) {
      const Direction found = find_direction(d, at::zeros_like(d), method, "site");
      const at::Tensor x = method == Method::pca_diff ? d - d.mean(0) : d;
      const at::Tensor v = found.vector.to(at::kDouble);
      const double lambda = found.statistics.eigenvalues.at(0);
      CHECK(at::allclose(x.t().matmul(x.mv(v)), lambda * v, 1e-5, 1e-4));
      CHECK(v.norm().item<double>() == doctest::Approx(1).epsilon(1e-6));
      CHECK(lambda == doctest::Approx(at::linalg_eigvalsh(x.t().matmul(x))[-1].item<double>()));
      CHECK(found.statistics.eigenvalues.size() == 8);
    }
  }
}

TEST_CASE("[steering.principal_component] the result is the same bit for bit each time") {
  const at::Tensor p = normal_doubles({128, 576}, 6) + 0.1, n = normal_doubles({128, 576}, 7);
  const Direction first = find_direction(p, n, Method::pca_center, "site");
  const Direction again = find_direction(p.clone(), n.clone(), Method::pca_center, "site");
  CHECK(at::equal(first.vector, again.vector));
  CHECK(first.statistics.eigenvalues == again.statistics.eigenvalues);
}

TEST_CASE(
    "[steering.principal_component] held-out accuracy judges a second fit on the pairs that it has "
    "not seen") {
  // The fifth pair of each five is turned round: the fit without them is perfect, and wrong about
  // all of them.
  at::Tensor d = normal_doubles({20, 4}, 8) * 0.01 + at::tensor({1.0, 0.0, 0.0, 0.0}, at::kDouble);
  CHECK(direction_of(d, Method::pca_center).statistics.held_out_accuracy == 1);
  for (int64_t pair = 4; pair < 20; pair += 5) d[pair].neg_();
  const Direction turned = direction_of(d, Method::pca_center);
  CHECK(turned.statistics.held_out_accuracy == 0);
  CHECK(turned.statistics.sign_vote_margin == doctest::Approx(0.6));
  // A fit that had seen the large left-out pairs would follow them.
  at::Tensor outliers =
      normal_doubles({20, 4}, 9) * 0.01 + at::tensor({1.0, 0.0, 0.0, 0.0}, at::kDouble);
  for (int64_t pair = 4; pair < 20; pair += 5)
    outliers[pair] = at::tensor({-1.0, 10.0, 0.0, 0.0}, at::kDouble);
  CHECK(direction_of(outliers, Method::pca_center).statistics.held_out_accuracy == 0);
  CHECK(
      std::isnan(direction_of(d.slice(0, 0, 9), Method::pca_center).statistics.held_out_accuracy));
}

TEST_CASE("[steering.principal_component] the median norm is that of all activations") {
  const Direction found =
      find_direction(rows({{3, 4}, {6, 8}}), rows({{0, 1}, {0, 20}}), Method::pca_center, "site");
  CHECK(found.statistics.median_norm == 5);  // of 1, 5, 10, 20: the lower middle
}

TEST_CASE("[steering.principal_component] bad activations are refused by name") {
  const at::Tensor good = rows({{1, 2}, {3, 5}});
  at::Tensor nan = good.clone();
  nan[1][0] = std::nan("");
  const auto error = [](const at::Tensor& p, const at::Tensor& n) {
    return error_of([&] { find_direction(p, n, Method::mean, "model.layers.3:output"); });
  };
  CHECK(contains(error(nan, good),
                 "model.layers.3:output: the positive activation of pair 2 is not finite"));
  CHECK(contains(error(good, nan), "negative activation of pair 2"));
  CHECK(contains(error(good, rows({{1, 2, 3}, {1, 2, 4}})), "width 2, negative ones of width 3"));
  CHECK(contains(error(good, rows({{1, 2}})), "2 positive and 1 negative"));
  CHECK(contains(error(at::zeros({0, 2}), at::zeros({0, 2})), "no positive activations"));
  CHECK(contains(error(good[0], good[1]), "1 dimensions"));
}

TEST_CASE("[steering.principal_component] methods have names") {
  for (const Method method : {Method::pca_center, Method::pca_diff, Method::mean}) {
    CHECK(method_from_name(name_of(method)) == method);
  }
  CHECK_THROWS_AS(method_from_name("pca"), vyx::UsageError);
  CHECK(contains(error_of([] { method_from_name("pca"); }), "pca-center, pca-diff, mean"));
}
