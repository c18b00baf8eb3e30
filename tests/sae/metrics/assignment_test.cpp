#include "tests/torch_support.h"

#include "sae/metrics/assignment.h"

#include <algorithm>
#include <numeric>
#include <vector>

namespace {

using vyx::sae::assign;
using namespace vyx::test;

at::Tensor random_costs(int64_t rows, int64_t columns, uint64_t seed, bool ties) {
  const at::Tensor costs = at::randn({rows, columns}, at::detail::createCPUGenerator(seed),
                                     at::TensorOptions(at::kDouble));
  return ties ? costs.round() : costs;
}

double total(const at::Tensor& cost, const std::vector<int64_t>& column_of) {
  double sum = 0;
  for (size_t row = 0; row < column_of.size(); ++row) {
    if (column_of[row] >= 0) sum += cost[static_cast<int64_t>(row)][column_of[row]].item<double>();
  }
  return sum;
}

/// The least total over all ways to give the rows columns of their own; rows ≤ columns.
double least_total(const at::Tensor& cost) {
  std::vector<int64_t> order(cost.size(1));
  std::iota(order.begin(), order.end(), 0);
  double least = std::numeric_limits<double>::infinity();
  do {
    least = std::min(least, total(cost, {order.begin(), order.begin() + cost.size(0)}));
  } while (std::next_permutation(order.begin(), order.end()));
  return least;
}

}  // namespace

TEST_CASE("[sae.assignment] no other assignment is cheaper, with and without ties") {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    const int64_t rows = 1 + static_cast<int64_t>(seed % 5),
                  columns = rows + static_cast<int64_t>(seed % 3);
    const at::Tensor cost = random_costs(rows, columns, seed, seed % 2 == 0);
    CAPTURE(seed);
    std::vector<int64_t> column_of = assign(cost);
    CHECK(total(cost, column_of) == doctest::Approx(least_total(cost)));
    std::sort(column_of.begin(), column_of.end());
    CHECK(std::adjacent_find(column_of.begin(), column_of.end()) == column_of.end());
  }
}

TEST_CASE("[sae.assignment] more rows than columns leave the dearest rows without one") {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const at::Tensor cost = random_costs(6, 3, seed, false);
    CAPTURE(seed);
    const std::vector<int64_t> column_of = assign(cost);
    CHECK(std::count(column_of.begin(), column_of.end(), -1) == 3);
    CHECK(total(cost, column_of) == doctest::Approx(least_total(cost.t())));
  }
}

TEST_CASE("[sae.assignment] a hidden permutation is found, in float32 as in float64") {
  const int64_t n = 200;
  const at::Tensor hidden =
      at::randperm(n, at::detail::createCPUGenerator(1), at::TensorOptions(at::kLong));
  at::Tensor cost = random_costs(n, n, 2, false).abs() + 1;
  cost.index_put_({at::arange(n), hidden}, 0.5);
  const at::Tensor found = at::tensor(assign(cost), at::kLong);
  CHECK(found.equal(hidden));
  CHECK(at::tensor(assign(cost.to(at::kFloat)), at::kLong).equal(hidden));
}

TEST_CASE("[sae.assignment] every row's favourite being the same column is sorted out") {
  // Row i pays i·j: the dearest rows must get the cheapest columns.
  const at::Tensor line = at::arange(50, at::kDouble);
  const std::vector<int64_t> column_of = assign(line.unsqueeze(1) * line);
  for (int64_t row = 0; row < 50; ++row) CHECK(column_of[row] == 49 - row);
}

TEST_CASE("[sae.assignment] costs that are not finite are an error") {
  at::Tensor cost = at::zeros({2, 2}, at::kDouble);
  cost[1][1] = std::numeric_limits<double>::quiet_NaN();
  CHECK(contains(error_of([&] { assign(cost); }), "not all finite"));
  CHECK(
      contains(error_of([] { assign(at::zeros({2}, at::kDouble)); }), "expected [rows, columns]"));
  CHECK(assign(at::zeros({0, 3}, at::kDouble)).empty());
}
