// The statistics of a comparison: nulls, intervals, slopes, repetition. Plain numbers,
// deterministic for a seed.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "models/tokenizer/tokenizer.h"

namespace vyx::compare {

double mean(std::span<const double> values);  // NaN when there is none
// a − b, element by element; of one length.
std::vector<double> difference(std::vector<double> a, std::span<const double> b);
double quantile(std::span<const double> values,
                double q);  // linear between order statistics; NaN when there is none

/// (1 + #{null ≥ observed}) / (1 + n): what chance alone reaches (Phipson and Smyth 2010,
/// arXiv:1603.05766). Each of the null is what the whole pipeline, selection included, gives
/// without the concept.
double null_p(double observed, std::span<const double> null);
/// How many (sample) standard deviations of the null `observed` is above its mean; NaN for fewer
/// than two.
double null_z(double observed, std::span<const double> null);
/// p-values for as many hypotheses, adjusted together (Holm 1979), in their order. NaN stays NaN
/// and counts as none.
std::vector<double> holm(std::span<const double> p);

struct Interval {
  double low = 0, high = 0;
};
/// Percentile bootstrap of the mean that draws whole clusters: values of one cluster are not
/// independent. NaN when there is no value.
Interval cluster_bootstrap(std::span<const double> values, std::span<const size_t> clusters,
                           int64_t resamples, uint64_t seed, double confidence = 0.95);

double slope(std::span<const double> x, std::span<const double> y);  // least squares
double spearman(
    std::span<const double> x,
    std::span<const double> y);  // ties get their mean rank; NaN when a side is constant

/// Of a text's n-grams: the share that are distinct, and the share that repeat an earlier one. NaN
/// for a text without n-grams.
double distinct_ngrams(std::span<const models::TokenId> tokens, size_t n);
double repeated_ngrams(std::span<const models::TokenId> tokens, size_t n);

}  // namespace vyx::compare
