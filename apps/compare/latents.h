// Latents of an autoencoder for a concept. Candidates are proposed by how far they separate the
// concept's sides and by the slope of the preference along them; they are chosen by what they do,
// since the latents that read a concept are often not the ones that write it (Arad et al. 2025,
// arXiv:2505.20063).
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <vector>

#include "sae/autoencoder/autoencoder.h"

namespace vyx::compare {

/// Each latent's largest activation over rows of activations [rows, d_in]: [latents] float32.
at::Tensor largest_activations(const sae::Autoencoder& sae, const at::Tensor& rows);

/// At most `count` latents that fire, by turns: one by difference of means (in units of the
/// latent's largest activation) and one by AUROC, both among those that are stronger on the
/// positive side, and one by the slope of the preference along its decoder row, where that rises.
/// positive [p, d_in], negative [n, d_in], slope [d_in].
std::vector<int64_t> propose_latents(const sae::Autoencoder& sae, const at::Tensor& positive,
                                     const at::Tensor& negative, const at::Tensor& slope,
                                     const at::Tensor& largest, int64_t count);

/// `count` latents that fire, at random.
std::vector<int64_t> random_latents(const at::Tensor& largest, int64_t count, uint64_t seed);

/// What a latent does at one dose, on the selection split.
struct LatentResponse {
  std::vector<double> shifts;  // [items], nats per token
  double kl = 0;               // 95th percentile
};

/// Effect per root nat at one dose: latents are chosen by it before they are dosed, since KL ≈
/// ½c²F. Measures each latent once: what is asked for again is remembered.
class LatentScores {
 public:
  explicit LatentScores(std::function<LatentResponse(int64_t latent)> measure)
      : measure_(std::move(measure)) {}

  /// `signs`: −1 for items whose sides count as swapped, else 1; empty: none is.
  double operator()(int64_t latent, std::span<const double> signs = {});
  /// `latents` by their score, the best first.
  std::vector<int64_t> ranked(std::vector<int64_t> latents, std::span<const double> signs = {});

 private:
  std::function<LatentResponse(int64_t)> measure_;
  std::map<int64_t, LatentResponse> known_;
};

struct LatentChangeSummary {
  double threshold = 0;  // share of a latent's largest activation that counts as a move
  double moved = 0;      // latents per token that move by more, without those that the edit sets
  // Mean |f′ − f| of these moves, as a share of the latent's largest activation.
  double mean_move = 0;
  int64_t ever = 0;                      // latents that move by more on any token
  double turned_on = 0, turned_off = 0;  // latents per token that begin, and cease, to fire
};
/// Of latents at x and at y, both [rows, d_in], as the autoencoder reads them.
LatentChangeSummary latent_changes(const sae::Autoencoder& sae, const at::Tensor& x,
                                   const at::Tensor& y, const at::Tensor& largest,
                                   const std::vector<int64_t>& edited);

}  // namespace vyx::compare
