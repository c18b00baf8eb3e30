// How directions and implicit vectors lie to each other and to an autoencoder's dictionary. In
// float64.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <vector>

namespace vyx::compare {

double cosine(const at::Tensor& a, const at::Tensor& b);  // [d], [d]; NaN when one is zero

/// The implicit vector of an edit over tokens: v = y − x, one row per token.
struct ImplicitVector {
  at::Tensor mean;       // v̄ [d] float64
  double mean_norm = 0;  // mean of ‖v‖
  double varying = 0;  // share of Σ‖v‖² that is not the mean's: 0 for a control vector, near 1
                       // where v̄ says nothing
};
ImplicitVector summarise(const at::Tensor& v);  // [rows, d]

struct NearestRow {
  int64_t latent = 0;
  double cosine = 0;
};

/// A vector in the decoder's dictionary.
struct DictionaryFit {
  std::vector<NearestRow> nearest;       // by |cosine|, at most 5
  std::optional<int64_t> rows_for_half;  // decoder rows that orthogonal matching pursuit needs for
                                         // 50 % of ‖v‖²; nullopt: more than its limit
  std::optional<int64_t> rows_for_most;  // for 90 %
  double outside_nearest = 0;  // share of ‖v‖² outside the span of the 5 nearest rows
  double outside_span = 0;     // share outside the span of all rows
};

inline constexpr int64_t kMostRows = 128;  // that a vector is taken apart into

/// A decoder's rows, prepared for many vectors.
class Dictionary {
 public:
  explicit Dictionary(const at::Tensor& decoder);  // W_dec [latents, d]
  /// Orthogonal matching pursuit (Pati et al. 1993) with coefficients of either sign, stopped at
  /// `most_rows`.
  DictionaryFit fit(const at::Tensor& vector, int64_t most_rows = kMostRows) const;

 private:
  at::Tensor rows_;  // of norm 1 (a zero row stays) [latents, d] float64
  at::Tensor span_;  // an orthonormal basis [rank, d] float64
};

}  // namespace vyx::compare
