// Which rows of activations count. Padding, special tokens and attention sinks (Xiao et al. 2023,
// arXiv:2309.17453) are left out of every mean, statistic and dictionary, and counted: one sink
// alone, whose activation is many times as long as a text's, would ruin them.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <limits>

#include "models/tokenizer/tokenizer.h"

namespace vyx::models {

/// An attention sink's activation is longer than this many times the median norm of its site.
constexpr double kSinkThreshold = 10;
/// As a limit on norms: no row is a sink.
constexpr double kAnyNorm = std::numeric_limits<double>::infinity();

/// What is known of a forward's rows before it runs. On the CPU.
struct RowFacts {
  at::Tensor real;     // [batch, seq] bool; undefined: no row is padding
  at::Tensor special;  // [batch, seq] bool: real tokens that are not text; undefined: none
  at::Tensor tokens;   // [batch, seq] int64: their ids; undefined: the rows are not tokens
};

RowFacts facts_of(const Tokenizer& tokenizer, at::Tensor tokens, at::Tensor real = {});

/// The rows that are neither padding nor, unless they are kept, special: [batch, seq] bool;
/// undefined: all.
at::Tensor text_rows(const RowFacts& facts, bool keep_special = false);

/// Norms of rows [.., d]: [..].
at::Tensor row_norms(const at::Tensor& x);
/// The norm beyond which a row is an attention sink; kAnyNorm for a threshold or a median of 0.
double sink_limit(double median_norm, double threshold = kSinkThreshold);
/// Of norms [..], which are within the limit: [..] bool.
at::Tensor are_within(const at::Tensor& norms, double limit);

struct LeftOut {
  uint64_t special = 0, sinks = 0;  // rows

  LeftOut& operator+=(const LeftOut& other) {
    special += other.special;
    sinks += other.sinks;
    return *this;
  }
  friend LeftOut operator+(LeftOut a, const LeftOut& b) { return a += b; }
};

/// Rows that are text and no sinks, and how many of the real ones are not.
struct RegularRows {
  at::Tensor keep;  // [..] bool
  LeftOut left;
};
RegularRows regular_rows(const RowFacts& facts, const at::Tensor& norms, double max_norm);

uint64_t count_of(const at::Tensor& mask);  // how many are true

}  // namespace vyx::models
