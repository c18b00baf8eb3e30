// Objectives whose latents each decide for themselves whether they fire (relu, gated, jump_relu),
// from an architecture's rule for one latent of one token. What fires is sparse; when too much of
// it does, the same rule goes over dense micro-batches.
//
// A rule has, for a latent i with pre-activation z > lower[i] (below, it takes no part at all):
//     float activation(i, z)                f, what is decoded
//     float backward(i, z, df, da, sums)    the gradient of x·W_enc, from that of f; adds to `sums`
//     static constexpr bool kIdentity       whether f is z wherever a latent takes part
//     static constexpr bool kAuxiliary      whether z itself is decoded too, with a loss of its
//                                           own; da is its gradient
#pragma once
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mm.h>

#include <algorithm>
#include <vector>

#include "sae/kernels/preactivations.h"
#include "sae/kernels/select.h"
#include "sae/kernels/sparse_kernels.h"
#include "sae/kernels/tiles.h"
#include "sae/objectives/batch.h"
#include "sae/objectives/reconstruction.h"

namespace vyx::sae {

/// A reconstruction's error summed over the batch, and its gradient with respect to x̂ [batch,
/// d_out].
struct Decoded {
  double error = 0;
  at::Tensor gradient;
};

struct ElementwiseResult {
  std::vector<LatentSums> sums;  // [latents]
  Decoded main, auxiliary;
};

/// Whether the auxiliary reconstruction's loss trains the decoder as well as the encoder.
enum class Auxiliary { trains_encoder, trains_decoder };

/// A latent's gradients from its tokens: rows of W_enc and W_dec, and its sums. `add` keeps what
/// the rows hold; a latent without entries is then left alone.
template <class Rule>
void sparse_gradients(const Rule& rule, const Batch& batch, const SparseCode& code,
                      const Reconstruction& main, const Reconstruction* auxiliary, Auxiliary trains,
                      bool add, std::vector<LatentSums>& sums, Parameters& gradients) {
  const LatentOrder order = by_latent(code);
  const float* centered = batch.centered.const_data_ptr<float>();
  auto *encoder = gradients.encoder.mutable_data_ptr<float>(),
       *decoder = gradients.decoder.mutable_data_ptr<float>();
  parallel_ranges(batch.latents, 32, [&](int64_t begin, int64_t end) {
    std::vector<float> f, z, products;
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = order.offsets[i], count = order.offsets[i + 1] - first;
      if (add && count == 0) continue;
      const int32_t* tokens = order.tokens.data() + first;
      f.resize(count);
      z.resize(count);
      products.resize(count);
      for (int64_t e = 0; e < count; ++e) {
        const int32_t entry = order.entries[first + e];
        z[e] = code.values[entry];
        f[e] = rule.activation(i, z[e]);
        products[e] = rule.backward(i, z[e], main.latents[entry],
                                    auxiliary ? auxiliary->latents[entry] : 0, sums[i]);
      }
      weighted_sum(decoder + i * batch.d_out, batch.d_out, f.data(), tokens, count,
                   main.gradients_of(i), add);
      if (auxiliary && trains == Auxiliary::trains_decoder)
        weighted_sum(decoder + i * batch.d_out, batch.d_out, z.data(), tokens, count,
                     auxiliary->gradients_of(i), true);
      weighted_sum(encoder + i * batch.d_in, batch.d_in, products.data(), tokens, count, centered,
                   add);
    }
  });
}

template <class Rule>
ElementwiseResult sparse_elementwise(const Rule& rule, const Batch& batch, const SparseCode& code,
                                     Auxiliary trains, Parameters& gradients) {
  std::vector<float> f;  // [entries], where it is not z itself
  if (!Rule::kIdentity) f.resize(code.entries());
  parallel_ranges(int64_t(f.size()), 1 << 14, [&](int64_t begin, int64_t end) {
    for (int64_t e = begin; e < end; ++e) f[e] = rule.activation(code.indices[e], code.values[e]);
  });
  ElementwiseResult result{.sums = std::vector<LatentSums>(batch.latents)};
  const auto decode = [&](const float* latents) {
    return reconstruct(code, latents, batch.weights.decoder, batch.base, batch.target,
                       {batch.latents}, residual_scale(batch));
  };
  const Reconstruction main = decode(Rule::kIdentity ? code.values.data() : f.data());
  Reconstruction auxiliary;
  if (Rule::kAuxiliary) {
    auxiliary = decode(code.values.data());
    result.auxiliary = {auxiliary.errors[0], auxiliary.gradients[0]};
  }
  sparse_gradients(rule, batch, code, main, Rule::kAuxiliary ? &auxiliary : nullptr, trains, false,
                   result.sums, gradients);
  result.main = {main.errors[0], main.gradients[0]};
  return result;
}

/// The same by dense products, a micro-batch at a time.
template <class Rule>
ElementwiseResult dense_elementwise(const Rule& rule, const Batch& batch, const Preactivations& all,
                                    Auxiliary trains, Parameters& gradients) {
  constexpr int64_t kTokens = Preactivations::kTokens, kBlock = Preactivations::kLatents;
  constexpr int64_t kMaxElements = 1 << 22;  // of z at once
  const int64_t tiles_at_once = std::clamp<int64_t>(kMaxElements / batch.latents / kTokens, 1, 8);
  ElementwiseResult result{.sums = std::vector<LatentSums>(batch.latents)};
  const float* bias = batch.weights.encoder_bias.const_data_ptr<float>();
  const auto gradient_like_target = [&] {
    return at::empty({batch.size, batch.d_out}, at::kFloat);
  };
  result.main.gradient = gradient_like_target();
  if (Rule::kAuxiliary) result.auxiliary.gradient = gradient_like_target();
  gradients.encoder.zero_();
  gradients.decoder.zero_();

  // Pre-activations by block of latents, so that a block's are one matrix [tokens, width].
  at::Tensor z = at::empty({tiles_at_once * kTokens * batch.latents}, at::kFloat);
  for (int64_t first_tile = 0; first_tile < all.tiles(); first_tile += tiles_at_once) {
    const int64_t first = first_tile * kTokens,
                  tokens = std::min(batch.size - first, tiles_at_once * kTokens);
    const int64_t tiles = tiles_of(tokens, kTokens);
    const auto block_of = [&](int64_t block) {  // [tokens, width]
      const int64_t begin = block * kBlock, width = std::min(kBlock, batch.latents - begin);
      return z.narrow(0, tokens * begin, tokens * width).view({tokens, width});
    };
    std::vector<double> errors(tiles), auxiliary_errors(tiles);
    parallel_tiles(tiles, [&](int64_t tile_index) {
      Preactivations::Tile tile(all, first_tile + tile_index);
      const int64_t offset = tile.first() - first;  // in the micro-batch
      at::Tensor x_hat =
          result.main.gradient.narrow(0, tile.first(), tile.tokens());  // [tile.tokens, d_out]
      x_hat.copy_(batch.base.dim() == 2 ? batch.base.narrow(0, tile.first(), tile.tokens())
                                        : batch.base);
      at::Tensor auxiliary_x_hat;
      if (Rule::kAuxiliary) {
        auxiliary_x_hat = result.auxiliary.gradient.narrow(0, tile.first(), tile.tokens());
        auxiliary_x_hat.copy_(x_hat);
      }
      for (int64_t block = 0; block < all.blocks(); ++block) {
        tile.multiply(block);
        const at::Tensor values =
            block_of(block).narrow(0, offset, tile.tokens());  // [tile.tokens, width]
        const int64_t begin = tile.first_latent(), width = values.size(1);
        at::Tensor f = at::empty_like(values), active;
        if (Rule::kAuxiliary) active = at::empty_like(values);
        for (int64_t t = 0; t < tile.tokens(); ++t) {
          const float* products = tile.products(t);
          float *zs = values.mutable_data_ptr<float>() + t * width,
                *fs = f.mutable_data_ptr<float>() + t * width;
          for (int64_t i = 0; i < width; ++i) {
            zs[i] = products[i] + bias[begin + i];
            fs[i] = zs[i] > rule.lower[begin + i] ? rule.activation(begin + i, zs[i]) : 0;
          }
          if (Rule::kAuxiliary)
            for (int64_t i = 0; i < width; ++i)
              active.mutable_data_ptr<float>()[t * width + i] =
                  zs[i] > rule.lower[begin + i] ? zs[i] : 0;
        }
        const at::Tensor rows = batch.weights.decoder.narrow(0, begin, width);
        x_hat.addmm_(f, rows);
        if (Rule::kAuxiliary) auxiliary_x_hat.addmm_(active, rows);
      }
      for (int64_t t = 0; t < tile.tokens(); ++t) {
        const float* target =
            batch.target.const_data_ptr<float>() + (tile.first() + t) * batch.d_out;
        errors[tile_index] += residual(x_hat.mutable_data_ptr<float>() + t * batch.d_out, target,
                                       batch.d_out, residual_scale(batch));
        if (Rule::kAuxiliary)
          auxiliary_errors[tile_index] +=
              residual(auxiliary_x_hat.mutable_data_ptr<float>() + t * batch.d_out, target,
                       batch.d_out, residual_scale(batch));
      }
    });
    for (int64_t tile = 0; tile < tiles; ++tile) {
      result.main.error += errors[tile];
      result.auxiliary.error += auxiliary_errors[tile];
    }

    const at::Tensor x = batch.centered.narrow(0, first, tokens),
                     gradient = result.main.gradient.narrow(0, first, tokens);
    parallel_tiles(all.blocks(), [&](int64_t block) {
      const at::Tensor values = block_of(block);  // [tokens, width]
      const int64_t begin = block * kBlock, width = values.size(1);
      const at::Tensor rows = batch.weights.decoder.narrow(0, begin, width);
      at::Tensor df = at::mm(gradient, rows.t()), f = at::empty_like(df), da;  // [tokens, width]
      at::Tensor auxiliary_gradient;                                           // [tokens, d_out]
      if (Rule::kAuxiliary) {
        auxiliary_gradient = result.auxiliary.gradient.narrow(0, first, tokens);
        da = at::mm(auxiliary_gradient, rows.t());
      }
      for (int64_t t = 0; t < tokens; ++t) {
        float *zs = values.mutable_data_ptr<float>() + t * width,
              *dfs = df.mutable_data_ptr<float>() + t * width;
        float* fs = f.mutable_data_ptr<float>() + t * width;
        for (int64_t i = 0; i < width; ++i) {
          const int64_t latent = begin + i;
          const bool takes_part = zs[i] > rule.lower[latent];
          fs[i] = takes_part ? rule.activation(latent, zs[i]) : 0;
          dfs[i] =
              takes_part
                  ? rule.backward(latent, zs[i], dfs[i],
                                  Rule::kAuxiliary ? da.const_data_ptr<float>()[t * width + i] : 0,
                                  result.sums[latent])
                  : 0;
          if (!takes_part) zs[i] = 0;
        }
      }
      at::Tensor decoder_rows = gradients.decoder.narrow(0, begin, width);
      decoder_rows.addmm_(f.t(), gradient);
      if (Rule::kAuxiliary && trains == Auxiliary::trains_decoder)
        decoder_rows.addmm_(values.t(), auxiliary_gradient);
      gradients.encoder.narrow(0, begin, width).addmm_(df.t(), x);
    });
  }
  return result;
}

/// Sparse unless more than `kDenseShare` of the latents take part: there dense products are as fast
/// and take less memory.
template <class Rule>
ElementwiseResult elementwise_objective(const Rule& rule, const Batch& batch,
                                        const ObjectiveOptions& options, Auxiliary trains,
                                        Parameters& gradients) {
  constexpr double kDenseShare = 1.0 / 12;
  const auto code = [&] {
    // Until the encoder's gradient is written, its place holds the packed encoder.
    const Preactivations all(batch.centered, batch.weights.encoder, batch.weights.encoder_bias,
                             choose_products(options.bfloat16), gradients.encoder);
    return select_above(all, rule.lower.data(), kDenseShare * double(batch.latents));
  }();
  if (code) return sparse_elementwise(rule, batch, *code, trains, gradients);
  const Products dense = options.bfloat16 ? choose_products(true) : Products::float32;
  return dense_elementwise(
      rule, batch,
      Preactivations(batch.centered, batch.weights.encoder, batch.weights.encoder_bias, dense),
      trains, gradients);
}

}  // namespace vyx::sae
