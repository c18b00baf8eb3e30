// Data of the tests of intervals and flips.
#pragma once
#include <cstddef>
#include <numeric>
#include <vector>

namespace vyx::test {

/// Each value in a cluster of its own.
inline std::vector<size_t> own_clusters(size_t count) {
  std::vector<size_t> clusters(count);
  std::iota(clusters.begin(), clusters.end(), size_t{0});
  return clusters;
}

struct Items {
  std::vector<double> values;
  std::vector<size_t> clusters;
};
/// Items whose clusters have these sums and sizes.
inline Items items_of(const std::vector<double>& sums, const std::vector<size_t>& sizes) {
  Items items;
  for (size_t g = 0; g < sums.size(); ++g)
    for (size_t i = 0; i < sizes[g]; ++i) {
      items.values.push_back(sums[g] / static_cast<double>(sizes[g]));
      items.clusters.push_back(g);
    }
  return items;
}

}  // namespace vyx::test
