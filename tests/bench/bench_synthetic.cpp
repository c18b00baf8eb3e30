// A world of known features as in SynthSAEBench (Chanin et al. 2026, arXiv:2602.14687), a quarter
// of its features and a third of its width, for bench_synthetic.py: the rows, a TopK autoencoder
// trained on them, and how much of the world an autoencoder found.
#include <fmt/format.h>
#include <torch/script.h>

#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/base/json_guard.h"
#include "sae/files/autoencoder_file.h"
#include "sae/metrics/matching.h"
#include "sae/metrics/metrics.h"
#include "sae/training/train.h"
#include "tests/sae/synthetic.h"

namespace {

using namespace vyx;
using namespace vyx::sae;
using Words = std::vector<std::string>;

constexpr uint64_t kHeldOut = uint64_t{1} << 40,
                   kHeldOutBatches = 64;  // steps that no one trains on

test::Synthetic world() {
  return test::Synthetic({.features = 4096,
                          .width = 256,
                          .batch = 1024,
                          .zipf = 0.5,
                          .most_frequent = 0.4,
                          .least_frequent = 5e-4,
                          .correlation_rank = 25,
                          .correlation_scale = 0.1,
                          .roots = 32,
                          .branching = 4,
                          .depth = 3});
}

// BATCHES: their rows on stdout, raw float32 [1024, 256] each
void batches(const Words& words) {
  const test::Synthetic data = world();
  for (uint64_t step = 0, count = std::stoull(words.at(0)); step < count; ++step) {
    const at::Tensor x = data.rows(step).x.contiguous();
    if (std::fwrite(x.const_data_ptr<float>(), sizeof(float), x.numel(), stdout) !=
        static_cast<size_t>(x.numel()))
      fail("stdout: cannot write");
  }
}

// LATENTS K BATCHES LEARNING_RATE OUT
void train(const Words& words) {
  test::Synthetic data = world();
  TrainOptions options = recipe({.architecture = Architecture::topk,
                                 .width = data.width(),
                                 .latents = std::stoll(words.at(0)),
                                 .tokens = std::stoull(words.at(2)) * 1024,
                                 .batch = 1024});
  options.autoencoder.k = std::stoll(words.at(1));
  options.learning_rate = std::stod(words.at(3));
  vyx::sae::train(data, nullptr, options, words.at(4), ExistingRun::refuse, {});
}

// SAE
void evaluate(const Words& words) {
  const Autoencoder sae = load_autoencoder(words.at(0));
  const test::Synthetic data = world();
  const Matching matching = match(sae.weights.decoder, data.features());
  MetricsAccumulator accumulator(data.width(), sae.config.latents);
  DetectionCounter counter(matching.nearest);
  double true_l0 = 0;
  for (uint64_t step = 0; step < kHeldOutBatches; ++step) {
    const auto [x, a] = data.rows(kHeldOut + step);
    add(accumulator, sae, x);
    counter.add(encode(sae, x), a);
    true_l0 += (a > 0).sum().item<double>() / static_cast<double>(kHeldOutBatches * x.size(0));
  }
  const Metrics metrics = accumulator.metrics();
  const Detection detection = counter.result();
  fmt::print("{}\n", Json{{"mcc", matching.mean_matched_cosine},
                          {"mmcs", matching.mean_max_cosine},
                          {"uniqueness", matching.uniqueness},
                          {"precision", detection.mean_precision},
                          {"recall", detection.mean_recall},
                          {"f1", detection.mean_f1},
                          {"explained_variance", metrics.explained_variance},
                          {"l0", metrics.l0},
                          {"dead_fraction", metrics.dead_fraction},
                          {"true_l0", true_l0}}
                         .dump());
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const Words words(argv + 1, argv + argc);
    const std::string& command = words.at(0);
    const Words rest(words.begin() + 1, words.end());
    if (command == "batches") batches(rest);
    if (command == "train") train(rest);
    if (command == "evaluate") evaluate(rest);
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
