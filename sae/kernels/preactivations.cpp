#include "sae/kernels/preactivations.h"

#include <ATen/Functions.h>

#include <algorithm>
#include <cmath>

#include "sae/kernels/simd.h"
#include "sae/kernels/sparse_kernels.h"
#include "sae/kernels/tiles.h"

namespace vyx::sae {
namespace {

at::Tensor rounded(const at::Tensor& t) {
  return t.to(at::kBFloat16).to(at::kFloat);
}

}  // namespace

Products choose_products(bool bfloat16) {
  if (bfloat16) return bfloat16::available() ? Products::bfloat16 : Products::emulated;
  return bfloat16::available() ? Products::screened : Products::float32;
}

Preactivations::Preactivations(const at::Tensor& x, const at::Tensor& encoder,
                               const at::Tensor& bias, Products products, const at::Tensor& room)
    : products_(products),
      batch_(x.size(0)),
      latents_(encoder.size(0)),
      d_(encoder.size(1)),
      x_tensor_(products == Products::emulated ? rounded(x) : x),
      encoder_tensor_(products == Products::emulated ? rounded(encoder) : encoder),
      bias_tensor_(bias),
      x_(x_tensor_.const_data_ptr<float>()),
      encoder_(encoder_tensor_.const_data_ptr<float>()),
      bias_(bias.const_data_ptr<float>()) {
  if (products == Products::float32 || products == Products::emulated) return;
  const int64_t size = bfloat16::packed_latents_size(latents_, d_);
  packed_tensor_ =
      room.defined() && int64_t(room.nbytes()) >= 2 * size ? room : at::empty({size}, at::kShort);
  auto* packed = static_cast<uint16_t*>(packed_tensor_.data_ptr());
  packed_ = packed;
  std::vector<bfloat16::RowNorms> norms(latents_);
  parallel_ranges(tiles_of(latents_, bfloat16::kPanel), 8, [&](int64_t begin, int64_t end) {
    for (int64_t panel = begin; panel < end; ++panel)
      bfloat16::pack_panel(packed, norms.data(), encoder_, latents_, d_, panel);
  });
  if (products != Products::screened) return;
  // |x·w − x̃·w̃| ≤ ‖x − x̃‖·‖w‖ + ‖x̃‖·‖w − w̃‖ for rounded x̃ and w̃;
  // `order` bounds what the two orders
  // of summation can differ by.
  const float order = float(d_ + 64) * 0x1p-22f;
  upper_bias_.resize(latents_);
  margin_x_.resize(latents_);
  margin_w_.resize(latents_);
  for (int64_t i = 0; i < latents_; ++i) {
    upper_bias_[i] = bias_[i] + std::abs(bias_[i]) * 0x1p-21f;
    margin_x_[i] = norms[i].exact * 1.0001f;
    margin_w_[i] = norms[i].lost * 1.0001f + order * std::max(norms[i].exact, norms[i].rounded);
  }
}

int64_t Preactivations::tiles() const {
  return tiles_of(batch_, kTokens);
}

int64_t Preactivations::blocks() const {
  return tiles_of(latents_, kLatents);
}

void Preactivations::evaluate(float* out, int64_t token, const int32_t* latents,
                              int64_t count) const {
  dots(out, x_ + token * d_, d_, latents, count, encoder_);
  for (int64_t e = 0; e < count; ++e) out[e] += bias_[latents[e]];
}

Preactivations::Tile::Tile(const Preactivations& all, int64_t index)
    : all_(all),
      first_(index * kTokens),
      tokens_(std::min(kTokens, all.batch_ - first_)),
      x_(all.x_ + first_ * all.d_),
      products_(kTokens * kLatents),
      found_(kLatents + kLanes) {
  if (!all.packed_) return;
  packed_.resize(bfloat16::packed_tokens_size(tokens_, all.d_));
  norms_.resize(tokens_);
  bfloat16::pack_tokens(packed_.data(), norms_.data(), x_, tokens_, all.d_);
}

void Preactivations::Tile::multiply(int64_t block) {
  first_latent_ = block * kLatents;
  width_ = std::min(kLatents, all_.latents_ - first_latent_);
  if (all_.packed_) {
    stride_ = kLatents;
    bfloat16::multiply(products_.data(), stride_, packed_.data(), tokens_, all_.packed_,
                       first_latent_ / bfloat16::kPanel, tiles_of(width_, bfloat16::kPanel),
                       all_.d_);
    return;
  }
  stride_ = width_;
  at::Tensor z = at::from_blob(products_.data(), {tokens_, width_}, at::kFloat);
  at::mm_out(z, all_.x_tensor_.narrow(0, first_, tokens_),
             all_.encoder_tensor_.narrow(0, first_latent_, width_).t());
}

Preactivations::Tile::Found Preactivations::Tile::find(int64_t row, const float* lower,
                                                       float bound) {
  Filter f{.bias = all_.bias_ + first_latent_, .lower = lower + first_latent_, .bound = bound};
  if (all_.screened()) {
    f.bias = all_.upper_bias_.data() + first_latent_;
    f.margin_a = all_.margin_x_.data() + first_latent_;
    f.margin_b = all_.margin_w_.data() + first_latent_;
    f.a = norms_[row].lost;
    f.b = norms_[row].rounded;
  }
  return {found_.data(), filter(found_.data(), products(row), width_, f)};
}

}  // namespace vyx::sae
