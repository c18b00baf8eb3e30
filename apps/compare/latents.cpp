#include "apps/compare/latents.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <algorithm>

#include "sae/metrics/separation.h"

namespace vyx::compare {
namespace {

constexpr int64_t kRowsAtOnce = 512;  // of dense latents
constexpr double kMove = 0.1;         // of the largest activation

at::Tensor order_of(const at::Tensor& scores) {  // the largest first, the lower latent first among
                                                 // equals [latents] int64
  return std::get<1>(scores.sort(/*stable=*/true, /*dim=*/0, /*descending=*/true));
}

}  // namespace

Latents latents_over(const sae::Autoencoder& sae, const at::Tensor& rows) {
  at::Tensor largest = at::zeros({sae.config.latents}, at::kFloat);  // [latents]
  at::Tensor sum = at::zeros({sae.config.latents}, at::kDouble);     // [latents]
  for (int64_t first = 0; first < rows.size(0); first += kRowsAtOnce) {
    const at::Tensor f = encode(sae, rows.slice(0, first, first + kRowsAtOnce));  // [rows, latents]
    largest = at::maximum(largest, std::get<0>(f.max(0)));
    sum += f.sum(0, false, at::kDouble);
  }
  return {sae, largest, (sum / rows.size(0)).to(at::kFloat)};
}

std::vector<int64_t> propose_latents(const Latents& latents, const at::Tensor& positive,
                                     const at::Tensor& negative, const at::Tensor& slope,
                                     int64_t count) {
  const sae::Autoencoder& sae = latents.sae;
  const at::Tensor& largest = latents.largest;
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

at::Tensor first_order_shifts(const Latents& latents, const at::Tensor& slope) {
  return (latents.largest - latents.mean).to(at::kDouble) *
         latents.sae.weights.decoder.to(at::kDouble).mv(slope.to(at::kDouble));
}

LatentChangeSummary latent_changes(const Latents& latents, const at::Tensor& x, const at::Tensor& y,
                                   const std::vector<int64_t>& edited) {
  const auto& [sae, largest, mean] = latents;
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
