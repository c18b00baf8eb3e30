// How well a dictionary's latents are the features that data was made of, where these are known
// (synthetic data).
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>

namespace vyx::sae {

/// Latents against features by the |cosine| of their directions. A direction of zeros has cosine 0.
struct Matching {
  double mean_matched_cosine = 0;  // MCC: |cosine| over the one-to-one pairs that make its sum
                                   // largest (O'Neill et al. 2024, arXiv:2411.13117)
  // MMCS: over the features, the |cosine| of the nearest latent (Sharkey et al. 2022).
  double mean_max_cosine = 0;
  double uniqueness = 0;  // different features among the latents' nearest, over the latents (Chanin
                          // et al. 2026, arXiv:2602.14687)
  at::Tensor matched;  // [latents] int64: each latent's feature in the one-to-one pairs; −1: none
                       // (more latents than features)
  at::Tensor nearest;  // [latents] int64: the feature that each latent is nearest to
  at::Tensor nearest_cosine;  // [latents] float32: its |cosine|
};

/// Matches decoder rows `latents` [latents, d] with `features` [features, d]. Holds |cosines|
/// [latents, features] in float32. Throws Error when the widths differ or there is none of either.
Matching match(const at::Tensor& latents, const at::Tensor& features);

/// Each latent as a detector of one feature: f > 0 where the feature is > 0. One entry per latent,
/// and means over all latents; 0 where a ratio is 0/0.
struct Detection {
  at::Tensor precision, recall, f1;  // [latents] float64
  double mean_precision = 0, mean_recall = 0, mean_f1 = 0;
};

/// Counts hits over batches. Counts are integers: the result depends on no order and no thread.
class DetectionCounter {
 public:
  /// `feature_of` [latents] int64: the feature that each latent is to detect, as a rule
  /// Matching::nearest.
  explicit DetectionCounter(at::Tensor feature_of);

  /// Latents f [tokens, latents] of rows that were made of features by strengths `a` [tokens,
  /// features].
  void add(const at::Tensor& f, const at::Tensor& a);
  Detection result() const;

 private:
  at::Tensor feature_of_;                // [latents] int64
  at::Tensor hits_, firings_, present_;  // [latents] int64: both, latent fired, feature there
};

}  // namespace vyx::sae
