#include "tests/torch_support.h"

#include "sae/training/adam.h"
#include "sae/metrics/matching.h"
#include "sae/metrics/metrics.h"
#include "sae/objectives/objective.h"
#include "tests/sae/random_autoencoder.h"
#include "tests/sae/synthetic.h"

namespace {

using namespace vyx::sae;
using namespace vyx::test;

/// TopK with a unit-norm decoder and a tied start, by Adam with a rate that falls to 0 over the last fifth.
Autoencoder train_topk(Synthetic& data, int64_t latents, int64_t k, uint64_t steps) {
  constexpr double kLearningRate = 3e-3;
  Autoencoder sae = random_autoencoder(Architecture::topk, data.width(), latents);
  sae.config.k = k;
  Parameters& weights = sae.weights;
  weights.decoder /= weights.decoder.norm(2, {1}, /*keepdim=*/true);
  weights.encoder = weights.decoder.clone();
  weights.encoder_bias.zero_();
  weights.decoder_bias = data.batch(0).mean(0);
  Adam adam = make_adam(weights);
  Parameters gradients;
  for (uint64_t step = 0; step < steps; ++step) {
    loss_and_gradients(sae, {.x = data.batch(step)}, {}, gradients);
    const double left = static_cast<double>(steps - step) / (0.2 * static_cast<double>(steps));
    update(adam, weights, gradients, kLearningRate * std::min(1.0, left), {.unit_norm_decoder = true});
  }
  return sae;
}

}  // namespace

TEST_CASE("[sae.recovery] TopK on an easy set finds the planted features: mean matched cosine of at least .95") {
  // Twice as many features as dimensions, some three of them at a time.
  constexpr int64_t kFeatures = 64;
  constexpr uint64_t kSteps = 800;
  Synthetic data({.features = kFeatures, .width = 32, .batch = 1024, .most_frequent = 0.1, .least_frequent = 0.03, .bias = 1});
  const Autoencoder sae = train_topk(data, kFeatures, /*k=*/3, kSteps);

  const Matching matching = match(sae.weights.decoder, data.features());
  CHECK(matching.mean_matched_cosine >= 0.95);
  CHECK(matching.mean_max_cosine >= 0.95);
  CHECK(matching.uniqueness >= 0.95);

  const auto [x, a] = data.rows(kSteps);  // not trained on
  MetricsAccumulator accumulator(data.width(), kFeatures);
  add(accumulator, sae, x);
  DetectionCounter counter(matching.nearest);
  counter.add(encode(sae, x), a);
  CHECK(accumulator.metrics().explained_variance >= 0.8);
  CHECK(counter.result().mean_f1 >= 0.8);
  MESSAGE("MCC " << matching.mean_matched_cosine << ", MMCS " << matching.mean_max_cosine << ", uniqueness " << matching.uniqueness
                 << ", F1 " << counter.result().mean_f1 << ", explained variance " << accumulator.metrics().explained_variance);
}
