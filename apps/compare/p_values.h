// p-values by comparison with draws from which the concept was taken out. The observed value counts
// as a draw, so that a p is valid for any number of draws.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace vyx::compare {

/// (1 + #{null ≥ observed}) / (1 + n): what chance alone reaches (Phipson and Smyth 2010,
/// arXiv:1603.05766). Each of the null is what the whole pipeline, selection included, gives
/// without the concept. What is NaN counts as reached.
double null_p(double observed, std::span<const double> null);
/// How many (sample) standard deviations of the null `observed` is above its mean; NaN for fewer
/// than two.
double null_z(double observed, std::span<const double> null);

/// p-values for as many hypotheses, adjusted together (Holm 1979), in their order. NaN stays NaN
/// and counts as none.
std::vector<double> holm(std::span<const double> p);

struct StepDown {
  std::vector<double> p;  // of each method, adjusted for all of them, in their order
  double global_p = 1;    // that no method has an effect: the first step
};
/// Adjusts over methods whose draws are shared: row by row, each of `draws` [draws][methods] is one
/// draw that all methods went through (Westfall and Young 1993, step-down max z). Values are
/// standardised per method over the observed row and the draws, so that methods of small variance
/// count as much. Takes far fewer draws than Holm's. Throws Error when a row has another length or
/// a value that is not finite.
StepDown step_down(std::span<const double> observed, const std::vector<std::vector<double>>& draws);

/// A p-value that stops early (Besag and Clifford 1991): after `enough` draws that reach the
/// observed value, at the latest after `most` draws. Exact: P(p ≤ α) is α for each α that it can
/// take.
class SequentialP {
 public:
  explicit SequentialP(double observed, int64_t enough = 10, int64_t most = 499);

  bool done() const { return reached_ >= enough_ || draws_ >= most_; }
  void add(double draw);  // NaN counts as reached; must not be done()
  /// reached / draws when it stopped for that, else (1 + reached) / (1 + draws).
  double p() const;
  double next_smaller_p() const;  // the largest p below that it could have been
  int64_t draws() const { return draws_; }
  int64_t reached() const { return reached_; }

 private:
  double observed_;
  int64_t enough_, most_;
  int64_t draws_ = 0, reached_ = 0;
};

}  // namespace vyx::compare
