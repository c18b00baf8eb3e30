#include "sae/preactivations.h"

#include <ATen/Functions.h>

#include <algorithm>
#include <cmath>

#include "sae/sparse_kernels.h"
#include "sae/tiles.h"

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

Preactivations::Preactivations(const at::Tensor& x, const at::Tensor& encoder, const at::Tensor& bias, Products products)
    : products_(products), batch_(x.size(0)), latents_(encoder.size(0)), d_(encoder.size(1)), x_(x), encoder_(encoder), bias_(bias) {
  if (products == Products::float32) return;
  if (products == Products::emulated) {
    x_ = rounded(x);
    encoder_ = rounded(encoder);
    return;
  }
  packed_ = at::empty({bfloat16::packed_latents_size(latents_, d_)}, at::kShort);
  std::vector<bfloat16::RowNorms> norms(latents_);
  auto* packed = static_cast<uint16_t*>(packed_.data_ptr());
  parallel_ranges(tiles_of(latents_, bfloat16::kPanel), 8, [&](int64_t begin, int64_t end) {
    for (int64_t panel = begin; panel < end; ++panel)
      bfloat16::pack_panel(packed, norms.data(), encoder_.const_data_ptr<float>(), latents_, d_, panel);
  });
  if (products != Products::screened) return;
  // |x·w − x̃·w̃| ≤ ‖x − x̃‖·‖w‖ + ‖x̃‖·‖w − w̃‖ for rounded x̃ and w̃; `order` bounds what the two orders of summation can differ by.
  const float order = float(d_ + 64) * 0x1p-22f;
  upper_bias_.resize(latents_);
  margin_x_.resize(latents_);
  margin_w_.resize(latents_);
  const float* b = bias_.const_data_ptr<float>();
  for (int64_t i = 0; i < latents_; ++i) {
    upper_bias_[i] = b[i] + std::abs(b[i]) * 0x1p-21f;
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

void Preactivations::evaluate(float* out, int64_t token, const int32_t* latents, int64_t count) const {
  const float* b = bias_.const_data_ptr<float>();
  dots(out, x_.const_data_ptr<float>() + token * d_, d_, latents, count, encoder_.const_data_ptr<float>());
  for (int64_t e = 0; e < count; ++e) out[e] += b[latents[e]];
}

Preactivations::Tile::Tile(const Preactivations& all, int64_t index)
    : all_(all),
      first_(index * kTokens),
      tokens_(std::min(kTokens, all.batch_ - first_)),
      x_(all.x_.narrow(0, first_, tokens_)),
      products_(at::empty({kTokens, kLatents}, at::kFloat)),
      found_(kLatents) {
  if (!all.packed_.defined()) return;
  packed_.resize(bfloat16::packed_tokens_size(tokens_, all.d_));
  norms_.resize(tokens_);
  bfloat16::pack_tokens(packed_.data(), norms_.data(), x_.const_data_ptr<float>(), tokens_, all.d_);
}

void Preactivations::Tile::multiply(int64_t block) {
  first_latent_ = block * kLatents;
  width_ = std::min(kLatents, all_.latents_ - first_latent_);
  if (all_.packed_.defined()) {
    stride_ = kLatents;
    bfloat16::multiply(products_.mutable_data_ptr<float>(), stride_, packed_.data(), tokens_,
                       static_cast<const uint16_t*>(all_.packed_.const_data_ptr()), first_latent_ / bfloat16::kPanel,
                       tiles_of(width_, bfloat16::kPanel), all_.d_);
  } else {
    stride_ = width_;
    at::Tensor z = products_.view(-1).narrow(0, 0, tokens_ * width_).view({tokens_, width_});
    at::mm_out(z, x_, all_.encoder_.narrow(0, first_latent_, width_).t());
  }
}

const float* Preactivations::Tile::products(int64_t row) const {
  return products_.const_data_ptr<float>() + row * stride_;
}

Preactivations::Tile::Found Preactivations::Tile::find(int64_t row, const float* lower, float bound) {
  Filter f{.bias = all_.bias_.const_data_ptr<float>() + first_latent_, .lower = lower + first_latent_, .bound = bound};
  if (all_.screened()) {
    f.bias = all_.upper_bias_.data() + first_latent_;
    f.margin_a = all_.margin_x_.data() + first_latent_;
    f.margin_b = all_.margin_w_.data() + first_latent_;
    f.a = norms_[row].lost;
    f.b = norms_[row].rounded;
  }
  return {found_.data(), filter(found_.data(), products(row), width_, f)};
}

Preactivations::Tile::Bounds Preactivations::Tile::bounds(int64_t row, int32_t latent_of_block) const {
  const int64_t latent = first_latent_ + latent_of_block;
  const float b = all_.bias_.const_data_ptr<float>()[latent];
  const float product = products(row)[latent_of_block];
  if (!all_.screened()) return {product + b, product + b};
  const float margin = norms_[row].lost * all_.margin_x_[latent] + norms_[row].rounded * all_.margin_w_[latent];
  const float upper_bias = all_.upper_bias_[latent];
  return {product + (b - (upper_bias - b)) - margin, product + upper_bias + margin};
}

}  // namespace vyx::sae
