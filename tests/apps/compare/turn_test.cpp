#include "tests/torch_support.h"

#include "apps/compare/turn.h"

#include <cmath>

using namespace vyx;
using namespace vyx::compare;

namespace {

at::Tensor normal(at::IntArrayRef shape, uint64_t seed) {
  return at::randn(shape, at::detail::createCPUGenerator(seed), at::TensorOptions(at::kDouble));
}

/// Rows of which coordinate i has a deviation of i + 1, around 5.
at::Tensor rows_of(int64_t count, int64_t width) {
  return normal({count, width}, 1) * at::arange(1, width + 1, at::kDouble) + 5;
}

sae::Autoencoder random_sae(sae::Architecture architecture, int64_t width, int64_t latents) {
  sae::Autoencoder sae;
  sae.config = {.architecture = architecture,
                .d_in = width,
                .d_out = width,
                .latents = latents,
                .k = 3,
                .sites = {"site:output"}};
  sae.weights.encoder = normal({latents, width}, 2).to(at::kFloat);
  sae.weights.decoder = normal({latents, width}, 3).to(at::kFloat);
  sae.weights.encoder_bias = normal({latents}, 4).to(at::kFloat);
  sae.weights.decoder_bias = normal({width}, 5).to(at::kFloat);
  if (architecture == sae::Architecture::gated) {
    sae.weights.magnitude_scale = normal({latents}, 6).to(at::kFloat) * .1;
    sae.weights.magnitude_bias = normal({latents}, 7).to(at::kFloat);
  }
  return sae;
}

}  // namespace

TEST_CASE("[compare.turn] a rotation keeps lengths, and its vectors have no favourite axis") {
  const at::Tensor q = random_rotation(20, 1);
  CHECK(at::allclose(q.mm(q.t()), at::eye(20, at::kDouble), 0, 1e-12));
  CHECK_FALSE(at::allclose(q, random_rotation(20, 2)));
  // Of QR's own Q the diagonal leans to one side.
  at::Tensor sum = at::zeros({6}, at::kDouble), squares = at::zeros({6}, at::kDouble);
  for (uint64_t seed = 0; seed < 400; ++seed) {
    const at::Tensor diagonal = random_rotation(6, seed).diagonal();
    sum += diagonal;
    squares += diagonal.square();
  }
  CHECK((sum / 400).abs().max().item<double>() < 4 / std::sqrt(6. * 400));
  CHECK((squares / 400 - 1 / 6.).abs().max().item<double>() < .06);
}

TEST_CASE("[compare.turn] the spread is the rows', and shrinks where they are few") {
  const at::Tensor rows = rows_of(4000, 4);
  const Spread spread = spread_of(rows);
  CHECK(at::allclose(spread.center, rows.mean(0)));
  CHECK(at::allclose(spread.root.mm(spread.inverse_root), at::eye(4, at::kDouble), 0, 1e-9));
  const at::Tensor variances = spread.root.mm(spread.root).diagonal();
  CHECK(at::allclose(variances, at::tensor({1.0, 4.0, 9.0, 16.0}, at::kDouble), .15));
  // 6 rows of 4 equal variances say nothing about their differences.
  const at::Tensor few = spread_of(normal({6, 4}, 9)).root;
  CHECK((few - at::eye(4, at::kDouble) * few.diagonal().mean()).abs().max().item<double>() < .35);
}

TEST_CASE("[compare.turn] a turned dictionary is the same one at turned activations") {
  const at::Tensor rows = rows_of(3000, 6), x = rows.slice(0, 0, 50).to(at::kFloat);
  const Spread spread = spread_of(rows);
  const at::Tensor q = random_rotation(6, 3);
  const at::Tensor a = spread.root.mm(q).mm(spread.inverse_root);
  const auto turn = [&](const at::Tensor& values, const at::Tensor& matrix, double scale) {
    const at::Tensor center = spread.center * scale;
    return ((values.to(at::kDouble) - center).mm(matrix.t()) + center).to(at::kFloat);
  };
  for (const auto architecture :
       {sae::Architecture::topk, sae::Architecture::relu, sae::Architecture::gated})
    for (const bool subtract : {true, false})
      for (const double scale : {1.0, .5}) {
        CAPTURE(sae::name_of(architecture));
        CAPTURE(subtract);
        CAPTURE(scale);
        sae::Autoencoder sae = random_sae(architecture, 6, 12);
        sae.config.subtract_decoder_bias = subtract;
        if (scale != 1) sae.config.normalization = sae::Normalization::scale;
        sae.config.scales = {scale};
        REQUIRE(can_turn(sae));
        const sae::Autoencoder other = turned(sae, spread, q);
        const at::Tensor z = turn(x, a, 1), f = encode(other, x);
        CHECK(at::allclose(f, encode(sae, z), 1e-3, 1e-3));
        CHECK(
            at::allclose(decode(other, f, x), turn(decode(sae, f, z), a.inverse(), 1), 1e-3, 2e-3));
      }
  sae::Autoencoder per_token = random_sae(sae::Architecture::topk, 6, 12);
  per_token.config.normalization = sae::Normalization::layer_norm;
  CHECK_FALSE(can_turn(per_token));
}
