// Results that must not be printed without a word: each as one line for the user.
#pragma once
#include <string>
#include <vector>

#include "sae/autoencoder/autoencoder.h"
#include "sae/metrics/metrics.h"
#include "sae/metrics/recovered.h"

namespace vyx::sae {

/// What a result is judged by.
struct Quality {
  double explained_variance = 0;  // not finite: the activations have none to explain
  double l0 = 0, dead_fraction = 0;
  double wanted_l0 = 0;     // 0: any
  double tolerance = 0.05;  // share of wanted_l0 by which L0 may miss it
  std::string wanted_by;    // "--l0-target": what asked for it
};
/// No latent fires, explained variance below 0 or of nothing, half of the latents dead, another L0
/// than was wanted.
std::vector<std::string> degenerate(const Quality& quality);

/// Of rows that the autoencoder may not have been trained on: an L0 that is wanted (k of
/// batch-topk, l0-target as its training had it) may be missed by a quarter there, and latents are
/// dead only when all together fired ten times as often as there are of them.
std::vector<std::string> degenerate(const Metrics& metrics, const AutoencoderConfig& config);
/// A reconstruction that serves the model less than the mean, or no row that was replaced.
std::vector<std::string> degenerate(const Recovered& recovered);

}  // namespace vyx::sae
