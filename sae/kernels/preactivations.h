// Pre-activations z = x·W_encᵀ + b of a batch, tile by tile: a tile stays in cache and is selected
// from at once, so that no dense [batch, latents] ever exists.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "sae/kernels/bfloat16_product.h"

namespace vyx::sae {

/// How the products are computed.
enum class Products {
  float32,   // as they are
  screened,  // in bfloat16, with a bound on each product's error; what may be selected is computed
             // again in float32. The code is that of float32, at the speed of bfloat16
  bfloat16,  // in bfloat16, sums in float32
  emulated,  // the same on machines without such an instruction: rounded factors, multiplied as
             // float32
};

/// The fastest that gives float32 values, or bfloat16's if asked for.
Products choose_products(bool bfloat16);

class Preactivations {
 public:
  static constexpr int64_t kTokens = 64;                      // of a tile
  static constexpr int64_t kLatents = 16 * bfloat16::kPanel;  // of a block

  /// x [batch, d], encoder [latents, d], bias [latents]: float32, contiguous, kept and read until
  /// the end. `room`, float32 and no smaller than the encoder, holds a packed copy of it meanwhile;
  /// undefined: its own.
  Preactivations(const at::Tensor& x, const at::Tensor& encoder, const at::Tensor& bias,
                 Products products, const at::Tensor& room = {});

  int64_t batch() const { return batch_; }
  int64_t latents() const { return latents_; }
  int64_t tiles() const;   // of tokens
  int64_t blocks() const;  // of latents
  /// Whether bounds are not yet values, so that `evaluate` is to be called.
  bool screened() const { return products_ == Products::screened; }

  /// Pre-activations of up to kTokens tokens with one block of latents at a time; one thread's.
  class Tile {
   public:
    Tile(const Preactivations& all, int64_t index);
    int64_t first() const { return first_; }  // token
    int64_t tokens() const { return tokens_; }

    /// Moves to a block of latents: those from first_latent().
    void multiply(int64_t block);
    int64_t first_latent() const { return first_latent_; }

    /// x·W_encᵀ of the tile's token `row` with the block's latents, without the bias.
    const float* products(int64_t row) const { return products_.data() + row * stride_; }

    /// Latents of the block, counted from its first, whose z may be above lower[latent] and at
    /// least `bound`, for the tile's token `row`. Valid until the next call.
    struct Found {
      const int32_t* begin;
      int64_t count;
    };
    Found find(int64_t row, const float* lower, float bound);
    /// Bounds of z; equal unless screened.
    struct Bounds {
      float low, high;
    };
    Bounds bounds(int64_t row, int32_t latent_of_block) const {
      const int64_t latent = first_latent_ + latent_of_block;
      const float product = products(row)[latent_of_block], bias = all_.bias_[latent];
      if (!all_.screened()) return {product + bias, product + bias};
      const float margin =
          norms_[row].lost * all_.margin_x_[latent] + norms_[row].rounded * all_.margin_w_[latent];
      const float upper_bias = all_.upper_bias_[latent];
      return {product + (bias - (upper_bias - bias)) - margin, product + upper_bias + margin};
    }

   private:
    const Preactivations& all_;
    int64_t first_, tokens_, first_latent_ = 0, width_ = 0, stride_ = 0;
    const float* x_;                         // [tokens, d]
    std::vector<float> products_;            // [kTokens, kLatents]
    std::vector<uint16_t> packed_;           // x in bfloat16
    std::vector<bfloat16::RowNorms> norms_;  // [tokens]
    std::vector<int32_t> found_;
  };

  /// out[e] = z of `token` and latents[e], in float32.
  void evaluate(float* out, int64_t token, const int32_t* latents, int64_t count) const;

 private:
  Products products_;
  int64_t batch_, latents_, d_;
  at::Tensor x_tensor_, encoder_tensor_, bias_tensor_,
      packed_tensor_;  // what the pointers below point into
  const float *x_, *encoder_, *bias_;
  const uint16_t* packed_ = nullptr;                     // W_enc in bfloat16, by panels
  std::vector<float> upper_bias_, margin_x_, margin_w_;  // [latents]; screened
};

}  // namespace vyx::sae
