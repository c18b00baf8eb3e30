#include "tests/torch_support.h"

#include <cmath>

#include "sae/metrics/matching.h"
#include "sae/metrics/metrics.h"
#include "sae/training/trainer.h"
#include "tests/sae/synthetic.h"

namespace {

using namespace vyx::sae;
using namespace vyx::test;

/// By topk's recipe, at a rate for a short run.
Autoencoder train_topk(Synthetic& data, int64_t latents, int64_t k, uint64_t steps, int64_t batch) {
  TrainOptions options = recipe({.architecture = Architecture::topk,
                                 .width = data.width(),
                                 .latents = latents,
                                 .tokens = steps * static_cast<uint64_t>(batch),
                                 .batch = batch});
  AutoencoderConfig& config = options.autoencoder;
  config.d_in = config.d_out = data.width();
  config.k = k;
  config.scale = std::sqrt(static_cast<double>(data.width())) / data.mean_norm();
  options.learning_rate = 1e-2;
  options.dead_after = 20 * static_cast<uint64_t>(batch);
  Trainer trainer(options, initial_state(options, data.batch(0), {}));
  for (uint64_t step = 0; step < steps; ++step) trainer.step(data.batch(step), {});
  return trainer.state().sae;
}

}  // namespace

TEST_CASE(
    "[sae.recovery] TopK on an easy set finds the planted features: mean matched cosine of at "
    "least .95") {
  // Twice as many features as dimensions, some three of them at a time. Other seeds: .97 to .98.
  constexpr int64_t kFeatures = 64, kBatch = 1024;
  constexpr uint64_t kSteps = 1600;
  Synthetic data({.features = kFeatures,
                  .width = 32,
                  .batch = kBatch,
                  .most_frequent = 0.1,
                  .least_frequent = 0.03,
                  .bias = 1});
  const Autoencoder sae = train_topk(data, kFeatures, /*k=*/3, kSteps, kBatch);

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
  CHECK(counter.result().mean_f1 >= 0.7);  // k latents fire where fewer features do
}
