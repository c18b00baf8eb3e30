#include "core/base/nearest.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <utility>

namespace vyx {
namespace {

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i + 1);
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t replaced = diagonal + (a[i] != b[j]);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, diagonal + 1, row[j] + 1});
    }
  }
  return row.back();
}

}  // namespace

std::vector<std::string> nearest(std::string_view name, std::span<const std::string> names,
                                 size_t count) {
  std::vector<std::pair<size_t, size_t>> ranked;  // distance, index: ties keep their order
  for (size_t i = 0; i < names.size(); ++i) ranked.emplace_back(edit_distance(name, names[i]), i);
  count = std::min(count, ranked.size());
  std::partial_sort(ranked.begin(), ranked.begin() + static_cast<std::ptrdiff_t>(count),
                    ranked.end());
  std::vector<std::string> result;
  for (size_t i = 0; i < count; ++i) result.push_back(names[ranked[i].second]);
  return result;
}

std::string did_you_mean(std::string_view name, std::span<const std::string> known) {
  const auto best = nearest(name, known, 1);
  return best.empty() ? "; there are none" : fmt::format("; did you mean {}?", best.front());
}

}  // namespace vyx
