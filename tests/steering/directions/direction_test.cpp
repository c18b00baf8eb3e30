#include "tests/torch_support.h"

#include "steering/directions/direction.h"

#include <cmath>

#include "tests/random_tensors.h"

namespace {

using namespace vyx::steering;
using vyx::test::contains;
using vyx::test::error_of;
using vyx::test::normal_doubles;

at::Tensor rows(std::vector<std::vector<double>> values) {
  std::vector<at::Tensor> parts;
  for (const auto& row : values) parts.push_back(at::tensor(row, at::kDouble));
  return at::stack(parts);
}

Direction direction_of(const at::Tensor& p, const at::Tensor& n, std::string_view method) {
  return find_direction({{p, n}}, method_named(method), "site");
}

// The direction of pairs whose differences are `d`: P = d + offset, N = offset.
Direction direction_of(const at::Tensor& d, std::string_view method) {
  return direction_of(d + 0.5, at::full_like(d, 0.5), method);
}

// Within the rounding of a float32 result.
bool near(const Direction& direction, std::vector<double> expected) {
  return at::allclose(direction.vector.to(at::kDouble), at::tensor(expected, at::kDouble), 1e-7,
                      1e-8);
}

}  // namespace

// Expected values: computed once with scikit-learn's PCA(svd_solver="full") and with torch.

TEST_CASE(
    "[steering.direction] equal first components: pca-center is the mean, pca-diff loses "
    "it") {
  const at::Tensor d = rows({{5, 1, 0}, {5, -1, 0}, {5, 2, 0}, {5, -2, 0}});
  CHECK(near(direction_of(d, "pca-center"), {1, 0, 0}));
  CHECK(near(direction_of(d, "mean"), {5, 0, 0}));
  const Direction diff = direction_of(d, "pca-diff");
  CHECK(near(diff, {0, 1, 0}));  // the vote is tied, so the largest component is positive
  CHECK(diff.statistics.sign_vote_margin == 0);
  CHECK(diff.statistics.eigengap == doctest::Approx(1));
}

TEST_CASE("[steering.direction] a general case has scikit-learn's directions and eigenvalues") {
  const at::Tensor d =
      rows({{2, 1, 0, 1}, {3, 0, 1, 1}, {1, 2, -1, 0}, {2, 1, 1, 2}, {4, 1, 0, 1}});
  const Direction center = direction_of(d, "pca-center");
  CHECK(near(center, {0.882847958, 0.282316329, 0.108234701, 0.359391461}));
  CHECK(center.statistics.eigenvalues.at(0) == doctest::Approx(42.980245145).epsilon(1e-10));
  CHECK(center.statistics.sign_vote_margin == 1);
  const Direction diff = direction_of(d, "pca-diff");
  CHECK(near(diff, {0.674811087, -0.434041246, 0.490751794, 0.339707035}));
  CHECK(diff.statistics.eigenvalues.at(0) == doctest::Approx(8.153407763).epsilon(1e-9));
  CHECK(diff.statistics.sign_vote_margin == doctest::Approx(0.6));  // 80 to 20
  CHECK(near(direction_of(d, "mean"), {2.4, 1, 0.2, 1}));
}

TEST_CASE("[steering.direction] the sign is voted, whatever the sign of the components") {
  const at::Tensor d = rows({{-6, 0, 2}, {-6, 0, -2}, {-5, 1, 0}, {-7, -1, 0}});
  const Direction center = direction_of(d, "pca-center");
  CHECK(near(center, {-0.99990356, -0.01388488, 0}));
  CHECK(center.statistics.sign_vote_margin == 1);
}

TEST_CASE("[steering.direction] equal differences have a centre and a mean but no pca-diff") {
  const at::Tensor d = rows({{3, 4, 0}, {3, 4, 0}, {3, 4, 0}, {3, 4, 0}});
  CHECK(near(direction_of(d, "pca-center"), {0.6, 0.8, 0}));
  CHECK(near(direction_of(d, "mean"), {3, 4, 0}));
  const std::string error = error_of([&] { direction_of(d, "pca-diff"); });
  CHECK(contains(error, "site: pca-diff finds no direction: all 4 differences are equal"));
  CHECK(contains(error, "use pca-center or mean"));
}

TEST_CASE(
    "[steering.direction] differences within rounding of the activations are no "
    "direction") {
  const at::Tensor p = normal_doubles({12, 6}, 1) * 100;
  for (const char* name : {"pca-center", "pca-diff", "mean"}) {
    CAPTURE(name);
    CHECK(contains(error_of([&] { direction_of(p, p, name); }), "the same"));
    const at::Tensor noise = normal_doubles({12, 6}, 2) * 1e-6;
    CHECK(contains(error_of([&] { direction_of(p + noise, p, name); }), "the same"));
    CHECK(error_of([&] { direction_of(p + 1e4 * noise, p, name); }).empty());
  }
}

TEST_CASE(
    "[steering.direction] two equal eigenvalues are an error, two close ones a small "
    "eigengap") {
  CHECK(contains(error_of([&] {
                   direction_of(rows({{2, 0, 0}, {0, 2, 0}}), "pca-center");
                 }),
                 "equally well"));
  const Direction close = direction_of(rows({{2.001, 0, 0}, {0, 2, 0}}), "pca-center");
  CHECK(close.statistics.eigengap == doctest::Approx(1 - 4 / (2.001 * 2.001)));
}

TEST_CASE("[steering.direction] differences that cancel out have no mean") {
  const at::Tensor d = rows({{3, 1}, {-3, -1}, {3, 1}, {-3, -1}});
  CHECK(contains(error_of([&] { direction_of(d, "mean"); }), "cancel out"));
  CHECK(near(direction_of(d, "pca-center"), {3 / std::sqrt(10), 1 / std::sqrt(10)}));
}

TEST_CASE(
    "[steering.direction] the mean keeps its own sign, and its vote tells when most "
    "pairs disagree") {
  const Direction mean = direction_of(rows({{10, 0}, {-1, 0.5}, {-1, -0.5}, {-1, 0}}), "mean");
  CHECK(near(mean, {1.75, 0}));
  CHECK(mean.statistics.sign_vote_margin == -0.5);
}

TEST_CASE("[steering.direction] swapping the sides turns the direction round") {
  const at::Tensor p = normal_doubles({20, 7}, 3) + at::arange(7, at::kDouble),
                   n = normal_doubles({20, 7}, 4);
  for (const char* name : {"pca-center", "pca-diff", "mean"}) {
    CAPTURE(name);
    const Direction forwards = direction_of(p, n, name), backwards = direction_of(n, p, name);
    CHECK(at::allclose(forwards.vector, -backwards.vector, 1e-6, 1e-6));
  }
}

TEST_CASE(
    "[steering.direction] more pairs than dimensions or fewer, the direction solves the "
    "eigenproblem") {
  for (const auto& [pairs, width] : {std::pair<int64_t, int64_t>{9, 40}, {40, 9}}) {
    CAPTURE(pairs);
    const at::Tensor d = normal_doubles({pairs, width}, 5) + 0.3;
    for (const char* name : {"pca-center", "pca-diff"}) {
      const Direction found = direction_of(d, at::zeros_like(d), name);
      const at::Tensor x = std::string_view(name) == "pca-diff" ? d - d.mean(0) : d;
      const at::Tensor v = found.vector.to(at::kDouble);
      const double lambda = found.statistics.eigenvalues.at(0);
      CHECK(at::allclose(x.t().matmul(x.mv(v)), lambda * v, 1e-5, 1e-4));
      CHECK(v.norm().item<double>() == doctest::Approx(1).epsilon(1e-6));
      CHECK(lambda == doctest::Approx(at::linalg_eigvalsh(x.t().matmul(x))[-1].item<double>()));
      CHECK(found.statistics.eigenvalues.size() == 8);
    }
  }
}

TEST_CASE("[steering.direction] the result is the same bit for bit each time") {
  const at::Tensor p = normal_doubles({128, 576}, 6) + 0.1, n = normal_doubles({128, 576}, 7);
  const Direction first = direction_of(p, n, "pca-center");
  const Direction again = direction_of(p.clone(), n.clone(), "pca-center");
  CHECK(at::equal(first.vector, again.vector));
  CHECK(first.statistics.eigenvalues == again.statistics.eigenvalues);
}

TEST_CASE(
    "[steering.direction] held-out accuracy judges a second fit on the pairs that it has "
    "not seen") {
  // The fifth pair of each five is turned round: the fit without them is perfect, and wrong about
  // all of them.
  at::Tensor d = normal_doubles({20, 4}, 8) * 0.01 + at::tensor({1.0, 0.0, 0.0, 0.0}, at::kDouble);
  CHECK(direction_of(d, "pca-center").statistics.held_out_accuracy == 1);
  for (int64_t pair = 4; pair < 20; pair += 5) d[pair].neg_();
  const Direction turned = direction_of(d, "pca-center");
  CHECK(turned.statistics.held_out_accuracy == 0);
  CHECK(turned.statistics.sign_vote_margin == doctest::Approx(0.6));
  // A fit that had seen the large left-out pairs would follow them.
  at::Tensor outliers =
      normal_doubles({20, 4}, 9) * 0.01 + at::tensor({1.0, 0.0, 0.0, 0.0}, at::kDouble);
  for (int64_t pair = 4; pair < 20; pair += 5)
    outliers[pair] = at::tensor({-1.0, 10.0, 0.0, 0.0}, at::kDouble);
  CHECK(direction_of(outliers, "pca-center").statistics.held_out_accuracy == 0);
  CHECK(std::isnan(direction_of(d.slice(0, 0, 9), "pca-center").statistics.held_out_accuracy));
}

TEST_CASE("[steering.direction] the median norm is that of all activations") {
  const Direction found =
      direction_of(rows({{3, 4}, {6, 8}}), rows({{0, 1}, {0, 20}}), "pca-center");
  CHECK(found.statistics.median_norm == 5);  // of 1, 5, 10, 20: the lower middle
}

TEST_CASE("[steering.direction] bad activations are refused by name") {
  const at::Tensor good = rows({{1, 2}, {3, 5}});
  at::Tensor nan = good.clone();
  nan[1][0] = std::nan("");
  const auto error = [](const at::Tensor& p, const at::Tensor& n) {
    return error_of([&] {
      find_direction({{p, n}}, method_named("mean"), "model.layers.3:output");
    });
  };
  CHECK(contains(error(nan, good),
                 "model.layers.3:output: the positive activation of pair 2 is not finite"));
  CHECK(contains(error(good, nan), "negative activation of pair 2"));
  CHECK(contains(error(good, rows({{1, 2, 3}, {1, 2, 4}})), "width 2, negative ones of width 3"));
  CHECK(contains(error(good, rows({{1, 2}})), "2 positive and 1 negative"));
  CHECK(contains(error(at::zeros({0, 2}), at::zeros({0, 2})), "no positive activations"));
  CHECK(contains(error(good[0], good[1]), "1 dimensions"));
}

TEST_CASE("[steering.direction] every method finds a planted concept, and judges it alike") {
  at::Tensor planted = at::zeros({12}, at::kDouble);
  planted[3] = 1;
  const at::Tensor strength = normal_doubles({40, 1}, 10).abs() + 2;
  const at::Tensor common = 5 * normal_doubles({40, 12}, 11);
  const MethodInput input{{common + strength * planted + 0.1 * normal_doubles({40, 12}, 12),
                           common - strength * planted}};
  for (const Method& method : methods()) {
    CAPTURE(method.name);
    const Direction found = find_direction(input, method, "site");
    CHECK((found.vector.scalar_type() == at::kFloat));
    // The regression weighs the common part's spread, too.
    CHECK((found.vector[3] / found.vector.norm()).item<double>() >
          (method.name == "logistic" ? 0.85 : 0.9));
    CHECK(found.statistics.sign_vote_margin == 1);
    CHECK(found.statistics.held_out_accuracy == 1);
    CHECK(found.statistics.eigengap > 0.5);
    CHECK(found.statistics.eigenvalues.size() == 8);
    const at::Tensor vector = find_vector(input, method, "site");
    CHECK(at::equal(vector.to(at::kFloat), found.vector));
  }
}

TEST_CASE("[steering.direction] of all methods pca-center alone ignores which side is which") {
  const at::Tensor p = normal_doubles({20, 6}, 13) + 1, n = normal_doubles({20, 6}, 14);
  const at::Tensor swap = (at::arange(20).remainder(3) == 0).unsqueeze(1);  // [20, 1]
  const MethodInput swapped{{at::where(swap, n, p), at::where(swap, p, n)}};
  for (const Method& method : methods()) {
    CAPTURE(method.name);
    const at::Tensor before = find_vector({{p, n}}, method, "site").to(at::kDouble),
                     after = find_vector(swapped, method, "site").to(at::kDouble);
    const double cosine = (before.dot(after) / (before.norm() * after.norm())).item<double>();
    CHECK((std::fabs(cosine) > 1 - 1e-9) == (method.name == "pca-center"));
  }
}
