// What numbers of a comparison are summed up by: means, quantiles, slopes, repetition. Intervals
// are in intervals.h and sign_flip.h, p-values in p_values.h.
#pragma once
#include <cstddef>
#include <span>
#include <vector>

#include "models/tokenizer/tokenizer.h"

namespace vyx::compare {

double mean(std::span<const double> values);  // NaN when there is none
// a − b, element by element; of one length.
std::vector<double> difference(std::vector<double> a, std::span<const double> b);
double quantile(std::span<const double> values,
                double q);  // linear between order statistics; NaN when there is none

double slope(std::span<const double> x, std::span<const double> y);  // least squares
double spearman(
    std::span<const double> x,
    std::span<const double> y);  // ties get their mean rank; NaN when a side is constant

/// Of a text's n-grams: the share that are distinct, and the share that repeat an earlier one. NaN
/// for a text without n-grams.
double distinct_ngrams(std::span<const models::TokenId> tokens, size_t n);
double repeated_ngrams(std::span<const models::TokenId> tokens, size_t n);

}  // namespace vyx::compare
