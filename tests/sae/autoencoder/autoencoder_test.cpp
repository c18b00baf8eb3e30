#include "sae/autoencoder/autoencoder.h"

#include <cmath>
#include <string>
#include <thread>
#include <vector>

#include "tests/sae/random_autoencoder.h"
#include "tests/torch_support.h"

using namespace vyx::sae;
using vyx::test::all_architectures;
using vyx::test::contains;
using vyx::test::error_of;
using vyx::test::random_autoencoder;

namespace {

constexpr int64_t kWidth = 6, kLatents = 20;

at::Tensor inputs(int64_t rows = 9) {
  return vyx::test::normal({rows, kWidth}, 7);
}

}  // namespace

TEST_CASE("[sae.autoencoder] relu encodes and decodes by its formula") {
  Autoencoder sae = random_autoencoder(Architecture::relu, kWidth, kLatents);
  const at::Tensor x = inputs();
  const at::Tensor f =
      ((x - sae.weights.decoder_bias).matmul(sae.weights.encoder.t()) + sae.weights.encoder_bias)
          .clamp_min(0);
  CHECK(at::allclose(encode(sae, x), f, 1e-5, 1e-6));
  CHECK(at::allclose(decode(sae, f), f.matmul(sae.weights.decoder) + sae.weights.decoder_bias, 1e-5,
                     1e-6));
  sae.config.subtract_decoder_bias = false;
  CHECK(at::allclose(encode(sae, x),
                     (x.matmul(sae.weights.encoder.t()) + sae.weights.encoder_bias).clamp_min(0),
                     1e-5, 1e-6));
}

TEST_CASE(
    "[sae.autoencoder] topk keeps at most k latents per token, the largest, and none below zero") {
  Autoencoder sae = random_autoencoder(Architecture::topk, kWidth, kLatents);
  sae.config.k = 3;
  const at::Tensor x = inputs(), f = encode(sae, x);
  CHECK((f >= 0).all().item<bool>());
  CHECK(((f > 0).sum(-1) <= 3).all().item<bool>());
  const at::Tensor z =
      (x - sae.weights.decoder_bias).matmul(sae.weights.encoder.t()) + sae.weights.encoder_bias;
  CHECK(at::allclose(f.amax(-1), z.amax(-1).clamp_min(0), 1e-5, 1e-6));
}

TEST_CASE(
    "[sae.autoencoder] jump-relu and batch-topk keep what lies above their thresholds, whole") {
  Autoencoder jump = random_autoencoder(Architecture::jump_relu, kWidth, kLatents);
  Autoencoder batch = random_autoencoder(Architecture::batch_topk, kWidth, kLatents);
  batch.topk_threshold = 0.4;
  for (const Autoencoder& sae : {jump, batch}) {
    const at::Tensor x = inputs(), f = encode(sae, x);
    const at::Tensor z =
        (x - sae.weights.decoder_bias).matmul(sae.weights.encoder.t()) + sae.weights.encoder_bias;
    const at::Tensor threshold =
        sae.weights.threshold.defined() ? sae.weights.threshold : at::full({kLatents}, 0.4);
    CHECK(at::allclose(f, z * (z > threshold), 1e-5, 1e-6));
    CHECK((f > 0).any().item<bool>());
  }
}

TEST_CASE("[sae.autoencoder] gated: the gate decides, the magnitude is its own") {
  const Autoencoder sae = random_autoencoder(Architecture::gated, kWidth, kLatents);
  const at::Tensor x = inputs(),
                   product = (x - sae.weights.decoder_bias).matmul(sae.weights.encoder.t());
  const at::Tensor magnitude =
      (x - sae.weights.decoder_bias)
          .matmul((sae.weights.encoder * sae.weights.magnitude_scale.exp().unsqueeze(1)).t()) +
      sae.weights.magnitude_bias;
  CHECK(at::allclose(encode(sae, x),
                     magnitude.clamp_min(0) * (product + sae.weights.encoder_bias > 0), 1e-5,
                     1e-6));
}

TEST_CASE("[sae.autoencoder] normalisation is undone by the decoder, whatever it is") {
  for (const auto normalization : {Normalization::none, Normalization::scale,
                                   Normalization::token_norm, Normalization::layer_norm}) {
    // With latents ±x_i and no bias a relu autoencoder is the identity on what it sees.
    Autoencoder sae = random_autoencoder(Architecture::relu, kWidth, 2 * kWidth);
    sae.weights.encoder = at::cat({at::eye(kWidth), -at::eye(kWidth)});
    sae.weights.decoder = sae.weights.encoder.clone();
    sae.weights.encoder_bias.zero_();
    sae.weights.decoder_bias.zero_();
    sae.config.normalization = normalization;
    sae.config.scales = {0.03};
    const at::Tensor x = 50 * inputs() + 3;
    CHECK(at::allclose(reconstruct(sae, x), x, 1e-4, 1e-4));
    const at::Tensor f = encode(sae, x);
    if (normalization == Normalization::token_norm)
      CHECK(at::allclose(f.norm(2, {-1}),
                         at::full({x.size(0)}, std::sqrt(static_cast<double>(kWidth))), 1e-4,
                         1e-4));
  }
}

TEST_CASE("[sae.autoencoder] a folded scale changes no latent and no reconstruction") {
  for (const Architecture architecture : all_architectures()) {
    Autoencoder sae = random_autoencoder(architecture, kWidth, kLatents);
    sae.config.normalization = Normalization::scale;
    sae.config.scales = {0.25};
    const Autoencoder folded = fold_scale(sae);
    CHECK(folded.config.normalization == Normalization::none);
    const at::Tensor x = 4 * inputs();
    CHECK(at::allclose(encode(folded, x), encode(sae, x), 1e-4, 1e-5));
    CHECK(at::allclose(reconstruct(folded, x), reconstruct(sae, x), 1e-4, 1e-4));
  }
}

TEST_CASE("[sae.autoencoder] sites and targets have scales of their own, folded or not") {
  Autoencoder sae = random_autoencoder(Architecture::relu, kWidth, kLatents);
  sae.config.normalization = Normalization::scale;
  sae.config.scales = {0.25, 2};
  const at::Tensor x = inputs();
  constexpr int64_t kHalf = kWidth / 2;
  static_assert(kWidth % 2 == 0);
  const at::Tensor factors = at::cat({at::full({kHalf}, 0.25), at::full({kHalf}, 2.0)});  // [d]
  Autoencoder plain = sae;
  plain.config.normalization = Normalization::none;
  const auto check = [&](const Autoencoder& scaled, const at::Tensor& expected) {
    validate(scaled, "scaled");
    const Autoencoder folded = fold_scale(scaled);
    CHECK(at::allclose(encode(scaled, x), encode(plain, x * factors), 1e-4, 1e-5));
    CHECK(at::allclose(reconstruct(scaled, x), expected, 1e-4, 1e-4));
    CHECK(at::allclose(encode(folded, x), encode(scaled, x), 1e-4, 1e-5));
    CHECK(at::allclose(reconstruct(folded, x), expected, 1e-4, 1e-4));
    CHECK(at::allclose(reconstruct(plain, x * factors) * spread(scaled.config, x), expected, 1e-4,
                       1e-4));
  };
  check(sae, reconstruct(plain, x * factors) / factors);
  CHECK(at::allclose(normalized_target(sae.config, x), x * factors));

  for (Autoencoder* each : {&sae, &plain}) {
    each->config.subtract_decoder_bias = false;
    each->weights.skip = vyx::test::normal({kWidth, kWidth}, 3);
  }
  sae.config.target_scales = {10};
  check(sae, reconstruct(plain, x * factors) / 10);
  CHECK(at::allclose(normalized_target(sae.config, x), x * 10));

  sae.config.subtract_decoder_bias = true;
  CHECK(contains(error_of([&] { validate(sae, "scaled"); }), "scales of the target: found [10]"));
  sae.config.scales = {1, 0};
  CHECK(contains(error_of([&] { validate(sae, "scaled"); }), "scale: found 0"));
}

TEST_CASE(
    "[sae.autoencoder] reconstruct is decode of encode for any leading shape, and a skip "
    "connection adds to it") {
  Autoencoder sae = random_autoencoder(Architecture::topk, kWidth, kLatents);
  sae.config.k = 4;
  const at::Tensor x = inputs(8).reshape({2, 4, kWidth});
  CHECK(at::equal(reconstruct(sae, x), decode(sae, encode(sae, x), x)));
  const at::Tensor without = reconstruct(sae, x);
  sae.weights.skip = at::eye(kWidth);
  CHECK(at::allclose(reconstruct(sae, x), without + x, 1e-5, 1e-6));
  CHECK(contains(error_of([&] { decode(sae, encode(sae, x)); }), "skip connection needs it"));
}

TEST_CASE("[sae.autoencoder] threads encode at once, each with its own weights") {
  std::vector<Autoencoder> all;
  for (uint64_t seed = 0; seed < 4; ++seed)
    for (const Architecture architecture : all_architectures())
      all.push_back(random_autoencoder(architecture, kWidth, kLatents, seed));
  const at::Tensor x = inputs();
  std::vector<at::Tensor> found(all.size());
  std::vector<std::thread> threads;
  for (size_t i = 0; i < all.size(); ++i)
    threads.emplace_back([&, i] { found[i] = reconstruct(all[i], x); });
  for (std::thread& thread : threads) thread.join();
  for (size_t i = 0; i < all.size(); ++i) CHECK(at::equal(found[i], reconstruct(all[i], x)));
}

TEST_CASE("[sae.autoencoder] what cannot be computed is one line") {
  const Autoencoder sae = random_autoencoder(Architecture::relu, kWidth, kLatents);
  const std::string message = error_of([&] { decode(sae, encode(sae, inputs()).to(at::kDouble)); });
  CHECK(contains(message, "autoencoder: decode: "));
  CHECK_FALSE(contains(message, "\n"));
}

TEST_CASE("[sae.autoencoder] sizes that do not fit are named") {
  Autoencoder sae = random_autoencoder(Architecture::topk, kWidth, kLatents);
  CHECK(error_of([&] { validate(sae, "sae"); }).empty());
  CHECK(contains(error_of([&] {
                   encode(sae, at::zeros({3, kWidth + 1}));
                 }),
                 "[3, 7], expected [.., 6]"));
  Autoencoder wide = sae;
  wide.config.k = kLatents + 1;
  CHECK(contains(error_of([&] { validate(wide, "sae"); }),
                 "sae: k: found 21, expected 1 to the 20 latents"));
  Autoencoder misshapen = sae;
  misshapen.weights.encoder = sae.weights.encoder.t();
  CHECK(contains(error_of([&] { validate(misshapen, "sae"); }),
                 "found W_enc of shape [6, 20], expected [20, 6]"));
  Autoencoder missing = sae;
  missing.weights.decoder_bias.reset();
  CHECK(
      contains(error_of([&] { validate(missing, "sae"); }), "found no tensor b_dec, expected [6]"));
  Autoencoder extra = sae;
  extra.weights.threshold = at::ones({kLatents});
  CHECK(contains(error_of([&] { validate(extra, "sae"); }),
                 "found a tensor threshold, expected none for topk"));
  Autoencoder nan = sae;
  nan.weights.encoder_bias[2] = NAN;
  CHECK(contains(error_of([&] { validate(nan, "sae"); }), "found NaN or infinity in b_enc"));
  Autoencoder nested = random_autoencoder(Architecture::batch_topk, kWidth, kLatents);
  nested.config.prefixes = {5, 5, kLatents};
  CHECK(contains(error_of([&] { validate(nested, "sae"); }), "prefixes: found [5, 5, 20]"));
}

TEST_CASE("[sae.autoencoder] architectures have names, and an unknown name lists them") {
  for (const Architecture architecture : all_architectures())
    CHECK(architecture_from_name(name_of(architecture)) == architecture);
  CHECK(contains(error_of([] { architecture_from_name("top-k"); }),
                 "expected one of relu, gated, topk, batch-topk, jump-relu"));
  CHECK(architecture_names(&ArchitectureTraits::has_k) == "topk, batch-topk");
}
