#include "sae/latents/attribution.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <fmt/ranges.h>

#include "core/base/error.h"

namespace vyx::sae {

at::Tensor attribution(const Autoencoder& sae, const at::Tensor& x, const at::Tensor& gradient) {
  if (x.dim() != 2 || x.sizes() != gradient.sizes() || x.size(1) != sae.config.d_out)
    fail("attribution: found x [{}] and a gradient [{}], expected [tokens, {}] of both",
         fmt::join(x.sizes(), ", "), fmt::join(gradient.sizes(), ", "), sae.config.d_out);
  at::Tensor sum = at::zeros({sae.config.latents}, at::kDouble);
  int64_t first = 0;
  for (const at::Tensor& part : encodable_parts(sae, x)) {
    const at::Tensor f = encode(sae, part);                      // [part, latents]
    at::Tensor slope = gradient.narrow(0, first, part.size(0));  // [part, d]
    // A latent's unit moves x̂ by unit · W_dec,i.
    const at::Tensor unit = spread(sae.config, part);  // [part, 1]
    if (unit.defined()) slope = slope * unit;
    sum += (f * at::matmul(slope, sae.weights.decoder.t())).sum(0, false, at::kDouble);
    first += part.size(0);
  }
  return sum;
}

at::Tensor decoder_directions(const Autoencoder& sae) {
  const at::Tensor& rows = sae.weights.decoder;                   // [latents, d]
  const at::Tensor norms = rows.norm(2, {-1}, /*keepdim=*/true);  // [latents, 1]
  return at::where(norms > 0, rows / norms, rows);
}

}  // namespace vyx::sae
