#include "tests/sae/objectives/dense_objective.h"
// torch first
#include <ATen/Parallel.h>

#include <cmath>
#include <map>
#include <span>

#include "core/io/digest.h"
#include "sae/objectives/objective.h"
#include "sae/training/adam.h"
#include "tests/random_tensors.h"
#include "tests/sae/random_autoencoder.h"
#include "tests/torch_support.h"

using namespace vyx::sae;
using vyx::test::contains;
using vyx::test::dense_objective;
using vyx::test::error_of;
using vyx::test::normal;
using vyx::test::random_autoencoder;

namespace {

constexpr int64_t kWidth = 22, kLatents = 150,
                  kBatch = 150;  // none a multiple of a vector, a panel or a tile

/// ‖a − b‖ / ‖b‖ in float64.
double relative(const at::Tensor& a, const at::Tensor& b) {
  const double size = b.to(at::kDouble).norm().item<double>();
  const double difference = (a.to(at::kDouble) - b.to(at::kDouble)).norm().item<double>();
  return size > 0 ? difference / size : difference;
}

std::map<std::string, at::Tensor> by_name(const Parameters& parameters) {
  std::map<std::string, at::Tensor> result;
  parameters.visit([&](const char* name, const at::Tensor& tensor) { result[name] = tensor; });
  return result;
}

void check_number(const char* what, double found, double expected) {
  INFO(what);
  CHECK(found == doctest::Approx(expected).epsilon(1e-5));
}

/// Loss and gradients equal the dense ones to 1e-5; returns the sparse result.
ObjectiveResult check_agrees(const Autoencoder& sae, const ObjectiveInput& input,
                             const ObjectiveOptions& options) {
  Parameters gradients;
  const ObjectiveResult result = loss_and_gradients(sae, input, options, gradients);
  const auto dense = dense_objective(sae, input, options);
  check_number("loss", result.loss, dense.loss.item<double>());
  check_number("reconstruction", result.reconstruction, dense.reconstruction.item<double>());
  check_number("sparsity", result.sparsity, dense.sparsity.item<double>());
  check_number("auxiliary", result.auxiliary, dense.auxiliary.item<double>());
  check_number("l0", result.l0, (dense.f > 0).sum().item<double>() / double(input.x.size(0)));
  CHECK(at::equal(result.firings, (dense.f > 0).sum(0)));
  const at::Tensor target = (input.target.defined() ? input.target : input.x).to(at::kDouble);
  check_number("variance", result.variance,
               (target - target.mean(0)).square().sum(-1).mean().item<double>());
  const auto found = by_name(gradients), expected = by_name(dense.gradients);
  REQUIRE(found.size() == expected.size());
  for (const auto& [name, gradient] : expected) {
    INFO(name, ": norm ", gradient.norm().item<double>());
    CHECK(relative(found.at(name), gradient) < 1e-5);
  }
  return result;
}

/// Few latents fire: a bias below zero.
Autoencoder sparse_autoencoder(Architecture architecture) {
  Autoencoder sae = random_autoencoder(architecture, kWidth, kLatents);
  sae.weights.encoder_bias -= 4;
  return sae;
}

at::Tensor dead_mask() {
  at::Tensor dead = at::zeros({kLatents}, at::kBool);
  dead.narrow(0, 10, 17).fill_(true);
  dead.narrow(0, 101, 9).fill_(true);
  return dead;
}

}  // namespace

TEST_CASE("[sae.objective] relu: loss and gradients are those of dense autograd, sparse or dense") {
  for (const bool sparse : {true, false}) {
    const Autoencoder sae = sparse ? sparse_autoencoder(Architecture::relu)
                                   : random_autoencoder(Architecture::relu, kWidth, kLatents);
    const ObjectiveResult result =
        check_agrees(sae, {.x = normal({kBatch, kWidth}, 3)}, {.sparsity = 0.7});
    CHECK((result.l0 < 0.08 * kLatents) == sparse);
    CHECK(result.l0 > 1);
  }
}

TEST_CASE(
    "[sae.objective] gated: loss and gradients are those of dense autograd, whether or not the "
    "auxiliary loss trains the decoder") {
  for (const bool sparse : {true, false})
    for (const bool trains : {true, false}) {
      const Autoencoder sae = sparse ? sparse_autoencoder(Architecture::gated)
                                     : random_autoencoder(Architecture::gated, kWidth, kLatents);
      check_agrees(sae, {.x = normal({kBatch, kWidth}, 3)},
                   {.sparsity = 0.7, .gated_auxiliary_trains_decoder = trains});
    }
}

TEST_CASE(
    "[sae.objective] topk and batch-topk: loss and gradients are those of dense autograd, with "
    "AuxK and without dead latents") {
  for (const auto architecture : {Architecture::topk, Architecture::batch_topk})
    for (const bool dead : {true, false}) {
      const Autoencoder sae = random_autoencoder(architecture, kWidth, kLatents);
      const ObjectiveInput input{.x = normal({kBatch, kWidth}, 4),
                                 .dead = dead ? dead_mask() : at::Tensor()};
      const ObjectiveResult result = check_agrees(sae, input, {});
      CHECK((result.auxiliary > 0) == dead);
      check_agrees(sae, input, {.auxiliary = 3, .auxiliary_k = 4});
      check_agrees(sae, input, {.auxiliary_k = 1000});  // more than there are
    }
}

TEST_CASE("[sae.objective] batch-topk reports the smallest latent that fired") {
  const Autoencoder sae = random_autoencoder(Architecture::batch_topk, kWidth, kLatents);
  const ObjectiveInput input{.x = normal({kBatch, kWidth}, 4)};
  Parameters gradients;
  const double lowest = loss_and_gradients(sae, input, {}, gradients).lowest_activation;
  const at::Tensor f = dense_objective(sae, input, {}).f;
  CHECK(lowest == doctest::Approx(f.masked_select(f > 0).min().item<double>()));
}

TEST_CASE("[sae.objective] jump-relu: each way to count sparsity, sparse or dense") {
  for (const bool sparse : {true, false})
    for (const auto sparsity :
         {JumpReluSparsity::l0, JumpReluSparsity::l0_target, JumpReluSparsity::tanh})
      for (const double bandwidth : {0.05, 2.0}) {
        const Autoencoder sae = sparse
                                    ? sparse_autoencoder(Architecture::jump_relu)
                                    : random_autoencoder(Architecture::jump_relu, kWidth, kLatents);
        const ObjectiveOptions options{.sparsity = 0.7,
                                       .jump_relu = sparsity,
                                       .bandwidth = bandwidth,
                                       .l0_target = 5,
                                       .pre_activation = 0.02};
        check_agrees(sae, {.x = normal({kBatch, kWidth}, 3)}, options);
        ObjectiveOptions through = options;
        through.straight_through_input = true;
        if (sparsity == JumpReluSparsity::l0_target) {
          Parameters gradients;
          CHECK(contains(
              error_of([&] {
                loss_and_gradients(sae, {.x = normal({kBatch, kWidth}, 3)}, through, gradients);
              }),
              "with l0_target"));
        } else {
          check_agrees(sae, {.x = normal({kBatch, kWidth}, 3)}, through);
        }
        if (sparsity != JumpReluSparsity::tanh) continue;
        ObjectiveOptions of_dead = options;
        of_dead.pre_activation_of_dead = true;
        check_agrees(sae, {.x = normal({kBatch, kWidth}, 3), .dead = dead_mask()}, of_dead);
      }
}

TEST_CASE("[sae.objective] matryoshka: the losses of nested prefixes are summed") {
  Autoencoder sae = random_autoencoder(Architecture::batch_topk, kWidth, kLatents);
  sae.config.prefixes = {7, 40, kLatents};
  const ObjectiveResult result = check_agrees(sae, {.x = normal({kBatch, kWidth}, 5)}, {});
  CHECK(result.loss > 1.2 * result.reconstruction);
  check_agrees(sae, {.x = normal({kBatch, kWidth}, 5), .dead = dead_mask()}, {.auxiliary = 3});
}

TEST_CASE("[sae.objective] transcoders: another target, another width, a skip connection") {
  for (const auto architecture : {Architecture::relu, Architecture::topk, Architecture::batch_topk,
                                  Architecture::jump_relu}) {
    constexpr int64_t kOut = 19;
    Autoencoder sae = random_autoencoder(architecture, kWidth, kLatents);
    sae.config.d_out = kOut;
    sae.config.subtract_decoder_bias = false;
    sae.weights.decoder = normal({kLatents, kOut}, 6);
    sae.weights.decoder_bias = normal({kOut}, 7);
    const ObjectiveInput input{
        .x = normal({kBatch, kWidth}, 8), .target = normal({kBatch, kOut}, 9), .dead = dead_mask()};
    check_agrees(sae, input, {.sparsity = 0.3});
    sae.weights.skip = normal({kOut, kWidth}, 10);
    check_agrees(sae, input, {.sparsity = 0.3});
  }
}

TEST_CASE(
    "[sae.objective] crosscoders: a latent's penalty is the sum of its decoder norms by site") {
  for (const auto architecture :
       {Architecture::relu, Architecture::gated, Architecture::jump_relu}) {
    Autoencoder sae = sparse_autoencoder(architecture);
    sae.config.sites = {"model.layers.3:output", "model.layers.7:output"};
    check_agrees(sae, {.x = normal({kBatch, kWidth}, 3)},
                 {.sparsity = 0.7, .jump_relu = JumpReluSparsity::tanh, .pre_activation = 0.01});
  }
}

TEST_CASE("[sae.objective] the sparse and the dense way agree") {
  // Nine latents in ten cannot fire, so that the same autoencoder is once below and once above the
  // share that goes dense.
  for (const auto architecture :
       {Architecture::relu, Architecture::gated, Architecture::jump_relu}) {
    Autoencoder sae = random_autoencoder(architecture, kWidth, kLatents);
    sae.weights.encoder_bias -= 1.5;
    const at::Tensor x = normal({kBatch, kWidth}, 11);
    Autoencoder padded = sae;
    padded.config.latents = 10 * kLatents;
    const auto pad = [&](at::Tensor& t, double value) {
      std::vector<int64_t> shape = t.sizes().vec();
      shape[0] = 9 * kLatents;
      t = at::cat({t, at::full(shape, value)});
    };
    pad(padded.weights.encoder, 0);
    pad(padded.weights.encoder_bias, -5);
    pad(padded.weights.decoder, 0.1);
    if (padded.weights.threshold.defined()) pad(padded.weights.threshold, 0.5);
    if (padded.weights.magnitude_bias.defined()) {
      pad(padded.weights.magnitude_bias, 0);
      pad(padded.weights.magnitude_scale, 0);
    }
    Parameters dense_gradients, sparse_gradients;
    const ObjectiveOptions options{.sparsity = 0.5};
    const auto dense = loss_and_gradients(sae, {.x = x}, options, dense_gradients);
    const auto sparse = loss_and_gradients(padded, {.x = x}, options, sparse_gradients);
    CHECK(dense.l0 > kLatents / 12.0);
    CHECK(sparse.l0 < 10 * kLatents / 12.0);
    CHECK(dense.l0 == sparse.l0);
    check_number("loss", sparse.loss, dense.loss);
    const auto a = by_name(sparse_gradients), b = by_name(dense_gradients);
    for (const auto& [name, gradient] : b) {
      INFO(name);
      CHECK(relative(name == "b_dec" ? a.at(name) : a.at(name).narrow(0, 0, kLatents), gradient) <
            1e-5);
    }
  }
}

TEST_CASE("[sae.objective] bfloat16 rounds the encoder's products and nothing else") {
  for (const auto architecture : {Architecture::relu, Architecture::topk}) {
    const Autoencoder sae = sparse_autoencoder(architecture);
    Autoencoder rounded = sae;  // what is multiplied exactly once its factors are rounded
    rounded.weights.encoder = sae.weights.encoder.to(at::kBFloat16).to(at::kFloat);
    rounded.weights.decoder_bias.zero_();
    Autoencoder plain = sae;
    plain.weights.decoder_bias.zero_();
    const at::Tensor x = normal({kBatch, kWidth}, 3).to(at::kBFloat16).to(at::kFloat);
    Parameters found, expected;
    const auto a = loss_and_gradients(plain, {.x = x}, {.sparsity = 0.1, .bfloat16 = true}, found);
    const auto b = loss_and_gradients(rounded, {.x = x}, {.sparsity = 0.1}, expected);
    check_number("loss", a.loss, b.loss);
    CHECK(relative(found.encoder, expected.encoder) < 1e-5);
    CHECK(relative(found.decoder, expected.decoder) < 1e-5);
  }
}

namespace {

std::string digest_of(const Parameters& parameters) {
  std::string all;
  parameters.visit([&](const char*, const at::Tensor& tensor) {
    all.append(static_cast<const char*>(tensor.const_data_ptr()), tensor.nbytes());
  });
  return vyx::sha256(std::as_bytes(std::span(all)));
}

/// Digests of gradients and weights after a few steps, with so many threads.
std::vector<std::string> train(Autoencoder sae, const ObjectiveOptions& options, int threads) {
  const int before = at::get_num_threads();
  at::set_num_threads(threads);
  sae.weights.visit([](const char*, const at::Tensor& tensor) {
    const_cast<at::Tensor&>(tensor) = tensor.clone();
  });
  Adam adam = make_adam(sae.weights);
  Parameters gradients;
  std::vector<std::string> digests;
  for (uint64_t step = 0; step < 3; ++step) {
    const at::Tensor x = normal({333, sae.config.d_in}, 20 + step);
    const auto result =
        loss_and_gradients(sae, {.x = x, .dead = at::arange(sae.config.latents).remainder(9) == 0},
                           options, gradients);
    digests.push_back(digest_of(gradients) + " " + std::to_string(result.loss));
    update(adam, sae.weights, gradients, 1e-3,
           {.unit_norm_decoder = sae.config.architecture == Architecture::topk});
    digests.push_back(digest_of(sae.weights));
  }
  at::set_num_threads(before);
  return digests;
}

}  // namespace

TEST_CASE("[sae.objective] one, two and three threads give the same bits, gradients and weights") {
  for (const auto architecture : vyx::test::all_architectures())
    for (const bool bfloat16 : {false, true})
      for (const double bias : {0.0, -4.0}) {  // dense, sparse
        Autoencoder sae = random_autoencoder(architecture, 72, 1000);
        sae.weights.encoder_bias += bias;
        if (architecture == Architecture::batch_topk) sae.config.prefixes = {100, 1000};
        const ObjectiveOptions options{
            .sparsity = 0.1, .jump_relu = JumpReluSparsity::tanh, .bfloat16 = bfloat16};
        const auto one = train(sae, options, 1);
        CHECK(train(sae, options, 2) == one);
        CHECK(train(sae, options, 3) == one);
      }
}

TEST_CASE("[sae.objective] gradients are overwritten, and written where they were") {
  const Autoencoder sae = random_autoencoder(Architecture::topk, kWidth, kLatents);
  Parameters fresh, used;
  loss_and_gradients(sae, {.x = normal({kBatch, kWidth}, 1)}, {}, used);
  const void* place = used.encoder.const_data_ptr();
  loss_and_gradients(sae, {.x = normal({kBatch, kWidth}, 2)}, {}, used);
  loss_and_gradients(sae, {.x = normal({kBatch, kWidth}, 2)}, {}, fresh);
  CHECK(used.encoder.const_data_ptr() == place);
  CHECK(digest_of(used) == digest_of(fresh));
}

TEST_CASE("[sae.objective] inputs of another shape are named") {
  const Autoencoder sae = random_autoencoder(Architecture::topk, kWidth, kLatents);
  Parameters gradients;
  const auto error = [&](const ObjectiveInput& input) {
    return error_of([&] { loss_and_gradients(sae, input, {}, gradients); });
  };
  CHECK(contains(error({.x = at::zeros({3, kWidth + 1})}),
                 "found x of shape [3, 23], expected [batch, 22]"));
  CHECK(contains(error({.x = at::zeros({0, kWidth})}), "found x of shape [0, 22]"));
  CHECK(contains(error({.x = at::zeros({3, kWidth}), .target = at::zeros({4, kWidth})}),
                 "found a target of shape [4, 22], expected [3, 22]"));
  CHECK(contains(error({.x = at::zeros({3, kWidth}), .dead = at::zeros({3}, at::kBool)}),
                 "dead latents"));
}
