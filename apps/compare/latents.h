// Latents of an autoencoder for a concept. Candidates are proposed by how far they separate the
// concept's sides and by the slope of the preference along them; they are chosen by what they do
// (road.h), since the latents that read a concept are often not the ones that write it (Arad et
// al. 2025, arXiv:2505.20063).
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "sae/autoencoder/autoencoder.h"

namespace vyx::compare {

/// An autoencoder and how strongly its latents fire over some activations.
struct Latents {
  sae::Autoencoder sae;
  at::Tensor largest, mean;  // activation of each [latents] float32
};
Latents latents_over(const sae::Autoencoder& sae, const at::Tensor& rows);  // [rows, d_in]

/// At most `count` latents that fire, by turns: one by difference of means (in units of the
/// latent's largest activation) and one by AUROC, both among those that are stronger on the
/// positive side, and one by the slope of the preference along its decoder row, where that rises.
/// positive [p, d_in], negative [n, d_in], slope [d_in].
std::vector<int64_t> propose_latents(const Latents& latents, const at::Tensor& positive,
                                     const at::Tensor& negative, const at::Tensor& slope,
                                     int64_t count);

/// How far the preference rises, to first order, when each latent is set to its largest activation
/// at every token: [latents] float64. slope [d_in].
at::Tensor first_order_shifts(const Latents& latents, const at::Tensor& slope);

struct LatentChangeSummary {
  double threshold = 0;  // share of a latent's largest activation that counts as a move
  double moved = 0;      // latents per token that move by more, without those that the edit sets
  // Mean |f′ − f| of these moves, as a share of the latent's largest activation.
  double mean_move = 0;
  int64_t ever = 0;                      // latents that move by more on any token
  double turned_on = 0, turned_off = 0;  // latents per token that begin, and cease, to fire
};
/// Of latents at x and at y, both [rows, d_in], as the autoencoder reads them.
LatentChangeSummary latent_changes(const Latents& latents, const at::Tensor& x, const at::Tensor& y,
                                   const std::vector<int64_t>& edited);

}  // namespace vyx::compare
