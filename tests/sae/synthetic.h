// Activations made of features that are known: what an autoencoder should find can be compared with
// what it found. Features fire as in SynthSAEBench (Chanin et al. 2026, arXiv:2602.14687):
// frequencies after Zipf, firing correlated through a Gaussian copula of low rank, and trees of
// features in which a child fires only where its parent does, and one of the siblings at most.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "sae/store/activation_source.h"

namespace vyx::test {

struct SyntheticOptions {
  uint64_t seed = 0;
  int64_t features = 64, width = 32;
  int64_t batch = 1024;     // rows
  uint64_t batches = 1000;  // in one pass
  double zipf = 0.5, most_frequent = 0.4,
         least_frequent = 5e-4;    // rank^−zipf, stretched to these two
  int64_t correlation_rank = 0;    // 0: features fire independently
  double correlation_scale = 0.1;  // standard deviation of the loadings
  int64_t roots = 0, branching = 4,
          depth = 3;  // trees of 1 + branching + … + branching^depth features; the rest stand alone
  double first_magnitude = 5,
         last_magnitude = 4;  // mean activation of the most and of the least frequent feature
  double magnitude_deviation = 0.5;  // a feature's own standard deviation is |N(this, this²)|
  double bias = 0;                   // ‖bias‖
  double noise = 0;                  // standard deviation of each coordinate's noise
};

/// x = Σ a_i d_i + bias + noise, with d_i random unit vectors.
class Synthetic : public sae::ActivationSource {
 public:
  explicit Synthetic(const SyntheticOptions& options);

  struct Rows {
    at::Tensor x;  // [batch, width]
    at::Tensor a;  // [batch, features], ≥ 0: how strongly each feature fires
  };
  /// A function of the seed and of `step` alone.
  Rows rows(uint64_t step) const;

  const at::Tensor& features() const { return features_; }  // [features, width], of norm 1
  /// [features]: of firing, as far as correlation and trees let it.
  const at::Tensor& probabilities() const { return probabilities_; }
  const at::Tensor& parents() const { return parents_; }  // [features] int64; −1: none

  at::Tensor batch(uint64_t step) override { return rows(step).x; }
  int64_t width() const override { return options_.width; }
  uint64_t rows() const override {
    return options_.batches * static_cast<uint64_t>(options_.batch);
  }
  std::vector<sae::SiteNorms> norms() const override { return {norms_}; }
  Json provenance() const override { return {{"synthetic", options_.seed}}; }

 private:
  /// Parents [families] and their children [families, branching] at one depth, int64.
  struct Level {
    at::Tensor parents, children;
  };
  void plant_trees();

  SyntheticOptions options_;
  at::Tensor features_, bias_;  // [features, width], [width]
  at::Tensor probabilities_,
      thresholds_;  // [features]: p and the standard normal's value that is exceeded with it
  at::Tensor loadings_,
      rest_;  // [features, rank] and what they leave of the deviation of 1 [features]
  at::Tensor magnitudes_, magnitude_deviations_;  // [features]
  at::Tensor parents_;                            // [features] int64
  std::vector<Level> levels_;                     // from the roots down
  sae::SiteNorms norms_;
};

}  // namespace vyx::test
