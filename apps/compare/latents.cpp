#include "apps/compare/latents.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/base/random.h"
#include "sae/metrics/separation.h"

namespace vyx::compare {
namespace {

constexpr int64_t kRowsAtOnce = 512;  // of dense latents
constexpr double kMove = 0.1;         // of the largest activation
constexpr double kLeastKl = 1e-3;     // below it, an effect per root nat would be one of rounding

at::Tensor order_of(const at::Tensor& scores) {  // the largest first, the lower latent first among
                                                 // equals [latents] int64
  return std::get<1>(scores.sort(/*stable=*/true, /*dim=*/0, /*descending=*/true));
}

}  // namespace

at::Tensor largest_activations(const sae::Autoencoder& sae, const at::Tensor& rows) {
  at::Tensor largest = at::zeros({sae.config.latents}, at::kFloat);
  for (int64_t first = 0; first < rows.size(0); first += kRowsAtOnce)
    largest = at::maximum(
        largest, std::get<0>(encode(sae, rows.slice(0, first, first + kRowsAtOnce)).max(0)));
  return largest;
}

std::vector<int64_t> propose_latents(const sae::Autoencoder& sae, const at::Tensor& positive,
                                     const at::Tensor& negative, const at::Tensor& slope,
                                     const at::Tensor& largest, int64_t count) {
  const sae::Separation separation = sae::separation(encode(sae, positive), encode(sae, negative));
  const at::Tensor& decoder = sae.weights.decoder;  // [latents, d]
  const at::Tensor along = decoder.mv(slope.to(decoder.scalar_type())) /
                           decoder.norm(2, {1}).clamp_min(1e-12);  // [latents]
  const at::Tensor fires = largest > 0,
                   reads = fires & (separation.difference > 0);  // [latents] bool
  std::vector<at::Tensor> orders;                                // latents, the best first
  for (const auto& [scores, usable] :
       {std::pair{separation.difference / largest.clamp_min(1e-12), reads},
        {separation.auroc, reads},
        {along, fires & (along > 0)}})
    orders.push_back(order_of(scores.where(usable, -1)).slice(0, 0, usable.sum().item<int64_t>()));
  std::vector<int64_t> chosen;
  for (int64_t place = 0; place < sae.config.latents; ++place)
    for (const at::Tensor& order : orders) {
      if (place >= order.size(0) || static_cast<int64_t>(chosen.size()) == count) continue;
      const auto latent = order[place].item<int64_t>();
      if (std::find(chosen.begin(), chosen.end(), latent) == chosen.end()) chosen.push_back(latent);
    }
  return chosen;
}

std::vector<int64_t> random_latents(const at::Tensor& largest, int64_t count, uint64_t seed) {
  const at::Tensor alive = (largest > 0).nonzero().squeeze(1);  // [alive]
  std::vector<int64_t> chosen;
  if (alive.size(0) == 0) return chosen;
  const Permutation order(static_cast<uint64_t>(alive.size(0)), seed);
  for (int64_t i = 0; i < std::min(count, alive.size(0)); ++i)
    chosen.push_back(alive[static_cast<int64_t>(order(static_cast<uint64_t>(i)))].item<int64_t>());
  return chosen;
}

double LatentScores::operator()(int64_t latent, std::span<const double> signs) {
  auto known = known_.find(latent);
  if (known == known_.end()) known = known_.emplace(latent, measure_(latent)).first;
  const auto& [shifts, kl] = known->second;
  double sum = 0;
  for (size_t i = 0; i < shifts.size(); ++i)
    sum += signs.empty() ? shifts[i] : signs[i] * shifts[i];
  return sum / static_cast<double>(shifts.size()) / std::sqrt(std::max(kl, kLeastKl));
}

std::vector<int64_t> LatentScores::ranked(std::vector<int64_t> latents,
                                          std::span<const double> signs) {
  std::map<int64_t, double> scores;
  for (const int64_t latent : latents) scores[latent] = (*this)(latent, signs);
  std::stable_sort(latents.begin(), latents.end(),
                   [&](int64_t a, int64_t b) { return scores.at(a) > scores.at(b); });
  return latents;
}

LatentChangeSummary latent_changes(const sae::Autoencoder& sae, const at::Tensor& x,
                                   const at::Tensor& y, const at::Tensor& largest,
                                   const std::vector<int64_t>& edited) {
  at::Tensor counts = largest > 0;  // [latents]: the others have no scale to move on
  for (const int64_t latent : edited) counts[latent] = false;
  const at::Tensor scale = largest.clamp_min(1e-12);
  at::Tensor ever = at::zeros({sae.config.latents}, at::kBool);
  double moves = 0, sizes = 0, on = 0, off = 0;
  for (int64_t first = 0; first < x.size(0); first += kRowsAtOnce) {
    const at::Tensor before =
        encode(sae, x.slice(0, first, first + kRowsAtOnce));  // [rows, latents]
    const at::Tensor after = encode(sae, y.slice(0, first, first + kRowsAtOnce));
    const at::Tensor change = ((after - before).abs() / scale).where(counts, 0);
    const at::Tensor moved = change > kMove;  // [rows, latents]
    moves += moved.sum().item<double>();
    sizes += change.where(moved, 0).sum(at::kDouble).item<double>();
    on += ((after > 0) & (before <= 0) & counts).sum().item<double>();
    off += ((after <= 0) & (before > 0) & counts).sum().item<double>();
    ever = ever | moved.any(0);
  }
  const auto rows = static_cast<double>(x.size(0));
  return {.threshold = kMove,
          .moved = moves / rows,
          .mean_move = moves > 0 ? sizes / moves : 0,
          .ever = ever.sum().item<int64_t>(),
          .turned_on = on / rows,
          .turned_off = off / rows};
}

}  // namespace vyx::compare
