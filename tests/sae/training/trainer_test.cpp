#include "tests/torch_support.h"

#include "sae/training/trainer.h"

#include "tests/sae/training/planted_source.h"

using namespace vyx;
using namespace vyx::sae;
using vyx::sae::test::PlantedSource;
using vyx::test::contains;
using vyx::test::error_of;

namespace {

TrainOptions options_of(Architecture architecture, PlantedSource& source, uint64_t steps) {
  TrainOptions options = recipe({.architecture = architecture,
                                 .width = 16,
                                 .latents = 40,
                                 .tokens = steps * 64,
                                 .batch = 64});
  options.autoencoder.d_in = options.autoencoder.d_out = 16;
  options.autoencoder.scales = {4 / source.mean_norm()};
  options.autoencoder.k = 4;
  options.learning_rate = 3e-3;
  options.dead_after = 640;
  return options;
}

Trainer trained(const TrainOptions& options, PlantedSource& source, uint64_t steps) {
  Trainer trainer(options, initial_state(options, source.batch(0), {}));
  for (uint64_t step = 0; step < steps; ++step) trainer.step(source.batch(step), {});
  return trainer;
}

at::Tensor unit_rows(const at::Tensor& rows) {
  return rows / rows.norm(2, {1}, true);
}

}  // namespace

TEST_CASE(
    "[sae.trainer] counts the tokens since each latent fired, and on how many each fired at the "
    "end of the run") {
  PlantedSource source({});
  TrainOptions options = options_of(Architecture::topk, source, 20);
  options.learning_rate = 1e-30;  // so that encode() below sees the weights of the last step
  TrainState state = initial_state(options, source.batch(0), {});
  state.sae.weights.encoder_bias[3] = -1e6;  // never fires
  Trainer trainer(options, std::move(state));
  for (uint64_t step = 0; step < 20; ++step) trainer.step(source.batch(step), {});
  CHECK(trainer.state().step == 20);
  CHECK(trainer.state().idle[3].item<int64_t>() == 20 * 64);
  CHECK(trainer.state().firings[3].item<int64_t>() == 0);
  CHECK(steps_counted(options) == 2);
  const at::Tensor f =
      encode(trainer.state().sae, at::cat({source.batch(18), source.batch(19)}));  // [128, latents]
  CHECK(trainer.state().firings.equal((f > 0).sum({0})));
  const at::Tensor fired_last = f.slice(0, 64).gt(0).any(0);  // [latents]
  CHECK((trainer.state().idle == 0).equal(fired_last));
  const Json metrics = trainer.take_metrics();
  CHECK(metrics["dead_fraction"] >= 1.0 / 40);
  CHECK(metrics["tokens"] == 1280);
}

TEST_CASE(
    "[sae.trainer] with one norm per token, tokens of any size train alike and are brought back to "
    "their size") {
  PlantedSource source({});
  for (const Normalization normalization : {Normalization::token_norm, Normalization::layer_norm}) {
    TrainOptions options = options_of(Architecture::topk, source, 30);
    options.autoencoder.normalization = normalization;
    const at::Tensor sizes = at::arange(1, 65, at::kFloat).unsqueeze(1);  // [64, 1]
    Trainer plain(options, initial_state(options, source.batch(0), {})),
        sized(options, initial_state(options, source.batch(0), {}));
    for (uint64_t step = 0; step < 30; ++step) {
      plain.step(source.batch(step), {});
      sized.step(source.batch(step) * sizes, {});
    }
    const Autoencoder &a = plain.state().sae, &b = sized.state().sae;
    CHECK(a.weights.decoder.allclose(b.weights.decoder, 0, 1e-3));
    const at::Tensor x = source.batch(31);  // [64, 16]
    const double error = (reconstruct(a, x * sizes) - x * sizes).norm().item<double>() /
                         (x * sizes).norm().item<double>();
    CHECK(error < 0.9);
    CHECK(reconstruct(a, x * sizes).allclose(reconstruct(a, x) * sizes, 1e-3, 1e-3));
  }
}

TEST_CASE("[sae.trainer] before enough tokens were seen, dead means never fired") {
  PlantedSource source({});
  const TrainOptions options = options_of(Architecture::topk, source, 20);
  Trainer trainer = trained(options, source, 1);
  const auto never = (trainer.state().idle == 64).sum().item<int64_t>();
  CHECK(trainer.take_metrics()["dead_fraction"] == static_cast<double>(never) / 40);
}

TEST_CASE("[sae.trainer] metrics are means over the steps since they were taken") {
  PlantedSource source({});
  const TrainOptions options = options_of(Architecture::topk, source, 20);
  Trainer one = trained(options, source, 1), two = trained(options, source, 2);
  const double first = one.take_metrics()["loss"], both = two.take_metrics()["loss"];
  one.step(source.batch(1), {});
  CHECK(both == doctest::Approx((first + one.take_metrics()["loss"].get<double>()) / 2));
}

TEST_CASE("[sae.trainer] dead latents begin anew along tokens of the batch, with fresh moments") {
  PlantedSource source({});
  TrainOptions options = options_of(Architecture::relu, source, 100);
  options.objective.sparsity = 0;
  options.resample_every = 12;
  TrainState state = initial_state(options, source.batch(0), {});
  state.sae.weights.encoder_bias[3] = -1e6;
  Trainer trainer(options, std::move(state));
  for (uint64_t step = 0; step < 12; ++step) trainer.step(source.batch(step), {});

  const TrainState& after = trainer.state();
  CHECK(after.idle[3].item<int64_t>() == 0);
  CHECK(after.sae.weights.encoder_bias[3].item<float>() == 0);
  const at::Tensor tokens = unit_rows(source.batch(11) * options.autoencoder.scales[0] -
                                      after.sae.weights.decoder_bias);  // [batch, d]
  const at::Tensor row =
      after.sae.weights.decoder[3];  // [d], of the norm that relu's recipe begins with
  CHECK(row.norm().item<double>() == doctest::Approx(0.1));
  CHECK(at::matmul(tokens, row / row.norm()).max().item<double>() ==
        doctest::Approx(1).epsilon(1e-5));
  CHECK(after.adam.first.encoder[3].abs().max().item<double>() == 0);
  CHECK(after.adam.second.decoder[3].abs().max().item<double>() == 0);
  CHECK(after.adam.second.decoder[4].abs().max().item<double>() > 0);
}

TEST_CASE("[sae.trainer] BatchTopK's threshold lets about k latents per token fire") {
  PlantedSource source({});
  const TrainOptions options = options_of(Architecture::batch_topk, source, 600);
  const Trainer trainer = trained(options, source, 600);
  CHECK(trainer.state().sae.topk_threshold > 0);
  const double l0 = (encode(trainer.state().sae, source.batch(700)) > 0).sum().item<double>() / 64;
  CHECK(l0 > 2.5);
  CHECK(l0 < 5.5);
}

TEST_CASE(
    "[sae.trainer] λ = 0 for JumpReLU and ReLU means no sparsity at all, more λ means fewer "
    "latents") {
  PlantedSource source({});
  for (const Architecture architecture :
       {Architecture::relu, Architecture::gated, Architecture::jump_relu}) {
    INFO(name_of(architecture));
    double l0[2] = {};
    for (const int strong : {0, 1}) {
      TrainOptions options = options_of(architecture, source, 300);
      options.objective.sparsity = strong * (architecture == Architecture::jump_relu ? 0.5 : 2);
      options.objective.bandwidth = 0.5;
      Trainer trainer = trained(options, source, 300);
      trainer.take_metrics();
      trainer.step(source.batch(299), {});
      l0[strong] = trainer.take_metrics()["l0"];
    }
    CHECK(l0[1] < 0.8 * l0[0]);
  }
}
