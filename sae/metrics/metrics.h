// How good a reconstruction is and how its latents fire, summed over any number of batches.
#pragma once
#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "core/base/json_guard.h"
#include "sae/autoencoder/autoencoder.h"
#include "sae/metrics/latent_statistics.h"

namespace vyx::sae {

/// How often latents fire: latents by log10(frequency + 1e-10), in equal bins from −10 (never) to 0
/// (always).
struct DensityHistogram {
  static constexpr double kLowest = -10, kHighest = 0;
  std::array<int64_t, 40> latents{};  // four bins per decade; the first: never fired
};

/// Means over tokens. x: the target [d], x̂: its reconstruction, f: latents. A ratio to a norm of 0
/// is left out of its mean.
struct Metrics {
  int64_t tokens = 0;
  double mse = 0;                 // E‖x − x̂‖²
  double explained_variance = 0;  // 1 − E‖x − x̂‖² / (E‖x‖² − ‖E x‖²)
  double normalized_mse = 0;  // E[‖x − x̂‖² / ‖x‖²] (Gao et al. 2024, arXiv:2406.04093)
  double cosine = 0;          // E[x·x̂ / (‖x‖‖x̂‖)]; 0 for an x̂ of 0
  double l2_ratio = 0;        // E[‖x̂‖ / ‖x‖]
  double relative_reconstruction_bias = 0;  // E‖x̂‖² / E[x·x̂]: below 1 a reconstruction shrinks
                                            // (Rajamanoharan et al. 2024, arXiv:2404.16014)
  double l0 = 0;             // latents > 0 per token
  double dead_fraction = 0;  // of the latents, those that never fired on these tokens
  DensityHistogram density;
};
Json to_json(const Metrics& metrics);         // a number that is not finite: null
std::string to_text(const Metrics& metrics);  // one line per figure

/// Sums are in float64, rows in their order: the result depends on the order of the rows, and
/// neither on how they were cut into batches nor on the number of threads.
class MetricsAccumulator {
 public:
  MetricsAccumulator(int64_t width, int64_t latents);

  /// Target and reconstruction [tokens, d] and latents [tokens, latents] of more tokens. Throws
  /// Error for other shapes.
  void add(const at::Tensor& target, const at::Tensor& reconstruction, const at::Tensor& f);

  /// Throws Error when no token was added.
  Metrics metrics() const;
  const LatentStatistics& latents() const { return latents_; }

 private:
  int64_t with_norm_ = 0;  // tokens with ‖x‖ > 0
  double target_ = 0, reconstruction_ = 0, product_ = 0,
         error_ = 0;  // Σ‖x‖², Σ‖x̂‖², Σ x·x̂, Σ‖x − x̂‖²
  double error_ratio_ = 0, cosine_ = 0, norm_ratio_ = 0;  // Σ over tokens with ‖x‖ > 0
  std::vector<double> sum_;                               // Σ x [d]
  LatentStatistics latents_;
};

/// Adds an autoencoder's reconstruction of x [tokens, d_in] (of `target` [tokens, d_out], if
/// given), without a dense [tokens, latents].
void add(MetricsAccumulator& accumulator, const Autoencoder& sae, const at::Tensor& x,
         const at::Tensor& target = {});

}  // namespace vyx::sae
