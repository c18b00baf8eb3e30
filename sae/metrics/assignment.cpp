#include "sae/metrics/assignment.h"

#include <ATen/Dispatch.h>
#include <ATen/Functions.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "core/base/error.h"

namespace vyx::sae {
namespace {

constexpr int64_t kNone = -1;

/// Dual prices keep cost(i, j) − row_price[i] − column_price[j] ≥ 0, and = 0 for the pairs that are
/// made: then no assignment is cheaper.
template <class T>
class Assignment {
 public:
  Assignment(const T* cost, int64_t rows, int64_t columns)  // rows ≤ columns
      : cost_(cost),
        rows_(rows),
        columns_(columns),
        row_price_(rows),
        column_price_(columns),
        column_of_(rows, kNone),
        row_of_(columns, kNone),
        distance_(columns),
        previous_(columns) {}

  std::vector<int64_t> solve() {
    for (int64_t row = 0; row < rows_; ++row) take_cheapest(row);
    for (int64_t row = 0; row < rows_; ++row) {
      if (column_of_[row] == kNone) augment(row);
    }
    return column_of_;
  }

 private:
  // A row's cheapest column is its own if no row before it took that column: the prices of all
  // columns are still 0.
  void take_cheapest(int64_t row) {
    const T* begin = cost_ + row * columns_;
    const T* cheapest = std::min_element(begin, begin + columns_);
    row_price_[row] = *cheapest;
    const int64_t column = cheapest - begin;
    if (row_of_[column] != kNone) return;
    row_of_[column] = row;
    column_of_[row] = column;
  }

  // Dijkstra from `row` over reduced costs to the nearest column that is free; then the pairs along
  // the path change partners.
  void augment(int64_t row) {
    std::fill(distance_.begin(), distance_.end(), std::numeric_limits<double>::infinity());
    std::vector<int64_t> open(columns_), settled;
    std::iota(open.begin(), open.end(), 0);
    double length = 0;
    int64_t at = row, end = kNone;
    while (end == kNone) {
      size_t nearest = 0;
      for (size_t o = 0; o < open.size(); ++o) {
        const int64_t column = open[o];
        const double through = length + static_cast<double>(cost_[at * columns_ + column]) -
                               row_price_[at] - column_price_[column];
        if (through < distance_[column]) {
          distance_[column] = through;
          previous_[column] = at;
        }
        const double best = distance_[open[nearest]];
        if (distance_[column] < best || (distance_[column] == best && row_of_[column] == kNone))
          nearest = o;
      }
      const int64_t column = open[nearest];
      length = distance_[column];
      open[nearest] = open.back();
      open.pop_back();
      settled.push_back(column);
      if (row_of_[column] == kNone) {
        end = column;
      } else {
        at = row_of_[column];
      }
    }

    row_price_[row] += length;
    for (const int64_t column : settled) {
      if (column == end) continue;  // its distance is `length`: nothing to add
      row_price_[row_of_[column]] += length - distance_[column];
      column_price_[column] -= length - distance_[column];
    }
    for (int64_t column = end, next = kNone; column != kNone; column = next) {
      const int64_t partner = previous_[column];
      next = partner == row ? kNone : column_of_[partner];
      row_of_[column] = partner;
      column_of_[partner] = column;
    }
  }

  const T* cost_;
  int64_t rows_, columns_;
  std::vector<double> row_price_, column_price_;
  std::vector<int64_t> column_of_, row_of_;
  std::vector<double> distance_;   // of each column from the row that is being placed
  std::vector<int64_t> previous_;  // the row before it on the shortest path
};

}  // namespace

std::vector<int64_t> assign(const at::Tensor& cost) {
  if (cost.dim() != 2) fail("a cost of {} dimensions, expected [rows, columns]", cost.dim());
  if (!cost.isfinite().all().item<bool>()) fail("the costs of an assignment are not all finite");
  const int64_t rows = cost.size(0), columns = cost.size(1);
  if (rows > columns) {
    std::vector<int64_t> column_of(rows, kNone);
    const std::vector<int64_t> row_of = assign(cost.t());
    for (int64_t column = 0; column < columns; ++column) column_of[row_of[column]] = column;
    return column_of;
  }
  const at::Tensor dense = cost.contiguous();
  return AT_DISPATCH_FLOATING_TYPES(dense.scalar_type(), "assign", [&] {
    return Assignment<scalar_t>(dense.const_data_ptr<scalar_t>(), rows, columns).solve();
  });
}

}  // namespace vyx::sae
