#include "sae/training/initialize.h"

#include <cmath>

#include "tests/random_tensors.h"
#include "tests/sae/random_autoencoder.h"
#include "tests/torch_support.h"

using namespace vyx::sae;
using vyx::test::contains;
using vyx::test::error_of;
using vyx::test::normal;
using vyx::test::random_autoencoder;

namespace {

AutoencoderConfig config(Architecture architecture) {
  AutoencoderConfig result;
  result.architecture = architecture;
  result.d_in = result.d_out = 12;
  result.latents = 40;
  result.k = 3;
  return result;
}

}  // namespace

TEST_CASE(
    "[sae.initialize] weights are valid, of the norm asked for, tied or not, and a function of the "
    "seed") {
  for (const auto architecture : vyx::test::all_architectures()) {
    const Autoencoder sae = initialize(config(architecture), {.seed = 4, .decoder_norm = 0.1});
    validate(sae, "initialized");
    CHECK(at::allclose(sae.weights.decoder.norm(2, {-1}), at::full({40}, 0.1)));
    CHECK(at::equal(sae.weights.encoder, sae.weights.decoder));
    CHECK(at::equal(
        initialize(config(architecture), {.seed = 4, .decoder_norm = 0.1}).weights.encoder,
        sae.weights.encoder));
    CHECK_FALSE(at::equal(
        initialize(config(architecture), {.seed = 5, .decoder_norm = 0.1}).weights.encoder,
        sae.weights.encoder));
  }
  const Autoencoder free = initialize(config(Architecture::topk), {.tied = false, .skip = true});
  CHECK_FALSE(at::equal(free.weights.encoder, free.weights.decoder));
  CHECK((free.weights.encoder.abs() <= 1 / std::sqrt(12.0)).all().item<bool>());
  CHECK(at::equal(free.weights.skip, at::zeros({12, 12})));
  AutoencoderConfig transcoder = config(Architecture::topk);
  transcoder.d_out = 7;
  transcoder.subtract_decoder_bias = false;
  CHECK(initialize(transcoder, {}).weights.encoder.sizes() == at::IntArrayRef({40, 12}));
}

TEST_CASE(
    "[sae.initialize] the geometric median is where the directions to all rows cancel, and "
    "outliers hardly move it") {
  const at::Tensor rows = normal({1001, 5}, 1) + at::arange(5);
  const at::Tensor median = geometric_median(rows);
  const at::Tensor away = rows - median;
  CHECK((away / away.norm(2, {-1}, true)).mean(0).norm().item<double>() < 1e-4);
  const at::Tensor spoilt = at::cat({rows, at::full({10, 5}, 1e5)});
  CHECK((geometric_median(spoilt) - median).norm().item<double>() < 0.1);
  CHECK((spoilt.mean(0) - median).norm().item<double>() > 100);
  CHECK(at::equal(geometric_median(at::ones({4, 3})), at::ones({3})));
  CHECK(contains(error_of([] { geometric_median(at::zeros({0, 3})); }), "expected [rows, d]"));
}

TEST_CASE(
    "[sae.initialize] dead latents start again from rows that are badly reconstructed, with their "
    "moments at zero") {
  for (const auto architecture :
       {Architecture::relu, Architecture::gated, Architecture::topk, Architecture::jump_relu}) {
    Autoencoder sae = random_autoencoder(architecture, 12, 40);
    const Autoencoder before = [&] {
      Autoencoder copy = sae;
      copy.weights.encoder = sae.weights.encoder.clone();
      return copy;
    }();
    Adam adam = make_adam(sae.weights);
    for (const Parameters* moments : {&adam.first, &adam.second})
      moments->visit([](const char*, const at::Tensor& tensor) { tensor.fill_(1); });
    at::Tensor dead = at::zeros({40}, at::kBool);
    dead.narrow(0, 5, 3).fill_(true);
    at::Tensor x = 1e-3 * normal({100, 12}, 3) + sae.weights.decoder_bias;
    x.narrow(0, 20, 4).copy_(30 * normal({4, 12}, 4));  // what is left to explain
    const at::Tensor bad = x.narrow(0, 20, 4) - sae.weights.decoder_bias;
    CHECK(resample_dead(sae, adam, x, {}, dead, {.seed = 9}) == 3);
    validate(sae, "resampled");
    const at::Tensor cosines =
        at::mm(sae.weights.decoder.narrow(0, 5, 3), (bad / bad.norm(2, {-1}, true)).t());  // [3, 4]
    CHECK((std::get<0>(cosines.max(1)) > 0.9999).all().item<bool>());
    CHECK(std::get<0>(at::_unique(std::get<1>(cosines.max(1)))).size(0) ==
          3);  // each from a row of its own
    const double alive =
        before.weights.encoder.index_select(0, dead.logical_not().nonzero().view(-1))
            .norm(2, {-1})
            .mean()
            .item<double>();
    CHECK(at::allclose(sae.weights.encoder.narrow(0, 5, 3).norm(2, {-1}),
                       at::full({3}, 0.2 * alive), 1e-5));
    CHECK(at::equal(sae.weights.encoder.narrow(0, 8, 32), before.weights.encoder.narrow(0, 8, 32)));
    for (const Parameters* moments : {&adam.first, &adam.second}) {
      CHECK(moments->encoder.sum().item<double>() == 37 * 12);
      CHECK(moments->decoder.sum().item<double>() == 37 * 12);
      CHECK(moments->encoder_bias.sum().item<double>() == 37);
    }
  }
}

TEST_CASE("[sae.initialize] no more latents start again than there are rows") {
  Autoencoder sae = random_autoencoder(Architecture::topk, 12, 40);
  Adam adam = make_adam(sae.weights);
  CHECK(resample_dead(sae, adam, normal({6, 12}, 1), {}, at::ones({40}, at::kBool), {}) == 6);
  CHECK(resample_dead(sae, adam, normal({6, 12}, 1), {}, at::zeros({40}, at::kBool), {}) == 0);
}
