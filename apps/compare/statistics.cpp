#include "apps/compare/statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <set>

#include "core/base/random.h"

namespace vyx::compare {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr uint64_t kBootstrapStream = 0x626f6f74;  // "boot"

std::vector<double> ranks(std::span<const double> values) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return values[a] < values[b]; });
  std::vector<double> result(values.size());
  for (size_t begin = 0; begin < order.size();) {
    size_t end = begin;
    while (end < order.size() && values[order[end]] == values[order[begin]]) ++end;
    for (size_t i = begin; i < end; ++i)
      result[order[i]] = static_cast<double>(begin + end - 1) / 2;
    begin = end;
  }
  return result;
}

double correlation(std::span<const double> x, std::span<const double> y) {
  const double mx = mean(x), my = mean(y);
  double xx = 0, yy = 0, xy = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    xx += (x[i] - mx) * (x[i] - mx);
    yy += (y[i] - my) * (y[i] - my);
    xy += (x[i] - mx) * (y[i] - my);
  }
  return xx > 0 && yy > 0 ? xy / std::sqrt(xx * yy) : kNaN;
}

std::set<std::vector<models::TokenId>> ngrams(std::span<const models::TokenId> tokens, size_t n) {
  std::set<std::vector<models::TokenId>> result;
  for (size_t i = 0; i + n <= tokens.size(); ++i) {
    const auto gram = tokens.subspan(i, n);
    result.emplace(gram.begin(), gram.end());
  }
  return result;
}

}  // namespace

std::vector<double> difference(std::vector<double> a, std::span<const double> b) {
  for (size_t i = 0; i < a.size(); ++i) a[i] -= b[i];
  return a;
}

double mean(std::span<const double> values) {
  return values.empty() ? kNaN
                        : std::accumulate(values.begin(), values.end(), 0.0) /
                              static_cast<double>(values.size());
}

double quantile(std::span<const double> values, double q) {
  if (values.empty()) return kNaN;
  std::vector<double> sorted(values.begin(), values.end());
  std::sort(sorted.begin(), sorted.end());
  const double place = q * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(place);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (place - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

double null_p(double observed, std::span<const double> null) {
  const auto reached =
      std::count_if(null.begin(), null.end(), [&](double value) { return value >= observed; });
  return static_cast<double>(1 + reached) / static_cast<double>(1 + null.size());
}

double null_z(double observed, std::span<const double> null) {
  if (null.size() < 2) return kNaN;
  const double center = mean(null);
  double squares = 0;
  for (const double value : null) squares += (value - center) * (value - center);
  return (observed - center) / std::sqrt(squares / static_cast<double>(null.size() - 1));
}

std::vector<double> holm(std::span<const double> p) {
  std::vector<size_t> order;
  for (size_t i = 0; i < p.size(); ++i)
    if (!std::isnan(p[i])) order.push_back(i);
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return p[a] < p[b]; });
  std::vector<double> adjusted(p.begin(), p.end());
  double largest = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    largest = std::max(largest, std::min(1.0, p[order[i]] * static_cast<double>(order.size() - i)));
    adjusted[order[i]] = largest;
  }
  return adjusted;
}

Interval cluster_bootstrap(std::span<const double> values, std::span<const size_t> clusters,
                           int64_t resamples, uint64_t seed, double confidence) {
  if (values.empty()) return {kNaN, kNaN};
  struct Cluster {
    double sum = 0, count = 0;
  };
  std::map<size_t, Cluster> by_number;
  for (size_t i = 0; i < values.size(); ++i) {
    by_number[clusters[i]].sum += values[i];
    by_number[clusters[i]].count += 1;
  }
  std::vector<Cluster> all;
  for (const auto& [number, cluster] : by_number) all.push_back(cluster);
  std::vector<double> means;
  uint64_t index = 0;
  for (int64_t r = 0; r < resamples; ++r) {
    Cluster drawn;
    for (size_t i = 0; i < all.size(); ++i) {
      const Cluster& cluster = all[random_bits(seed, kBootstrapStream, index++) % all.size()];
      drawn.sum += cluster.sum;
      drawn.count += cluster.count;
    }
    means.push_back(drawn.sum / drawn.count);
  }
  return {quantile(means, (1 - confidence) / 2), quantile(means, (1 + confidence) / 2)};
}

double slope(std::span<const double> x, std::span<const double> y) {
  const double mx = mean(x), my = mean(y);
  double xx = 0, xy = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    xx += (x[i] - mx) * (x[i] - mx);
    xy += (x[i] - mx) * (y[i] - my);
  }
  return xy / xx;
}

double spearman(std::span<const double> x, std::span<const double> y) {
  return correlation(ranks(x), ranks(y));
}

double distinct_ngrams(std::span<const models::TokenId> tokens, size_t n) {
  if (tokens.size() < n) return kNaN;
  return static_cast<double>(ngrams(tokens, n).size()) / static_cast<double>(tokens.size() - n + 1);
}

double repeated_ngrams(std::span<const models::TokenId> tokens, size_t n) {
  return 1 - distinct_ngrams(tokens, n);
}

}  // namespace vyx::compare
