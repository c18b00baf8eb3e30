// bench-sae FOLDER --steps N --threads T [--phases]: training steps on a case that bench_sae.py
// wrote, as JSON.
#include "tests/sae/objectives/raw_case.h"
// torch first
#include <ATen/Parallel.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <limits>

#include "sae/kernels/preactivations.h"
#include "sae/kernels/select.h"
#include "sae/kernels/tiles.h"
#include "sae/objectives/batch.h"
#include "sae/objectives/reconstruction.h"
#include "sae/training/adam.h"

namespace {

using namespace vyx;
using namespace vyx::sae;

template <class Work>
double seconds(Work&& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// A line of /proc/self/status, in bytes.
double status_bytes(const std::string& key) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with(key + ":")) return 1024 * std::stod(line.substr(key.size() + 1));
  return 0;
}

SparseCode select(const Autoencoder& sae, const Preactivations& all) {
  switch (sae.config.architecture) {
    case Architecture::topk:
      return select_topk(all, sae.config.k);
    case Architecture::batch_topk:
      return select_batch_topk(all, sae.config.k * all.batch());
    default: {
      const at::Tensor lower =
          sae.weights.threshold.defined() ? sae.weights.threshold : at::zeros({sae.config.latents});
      return *select_above(all, lower.const_data_ptr<float>(), double(sae.config.latents));
    }
  }
}

/// Where a step's time goes, the least of a few rounds.
Json phases(const Autoencoder& sae, const ObjectiveInput& input, const ObjectiveOptions& options) {
  double pack = 1e9, products = 1e9, selection = 1e9, decoding = 1e9, ordering = 1e9;
  for (int round = 0; round < 5; ++round) {
    const Batch batch(sae, input);
    std::optional<Preactivations> all;
    pack = std::min(pack, seconds([&] {
                      all.emplace(batch.centered, sae.weights.encoder, sae.weights.encoder_bias,
                                  choose_products(options.bfloat16));
                    }));
    products = std::min(products, seconds([&] {
                          parallel_tiles(all->tiles(), [&](int64_t index) {
                            Preactivations::Tile tile(*all, index);
                            for (int64_t block = 0; block < all->blocks(); ++block)
                              tile.multiply(block);
                          });
                        }));
    SparseCode code;
    selection = std::min(selection, seconds([&] { code = select(sae, *all); }));
    decoding = std::min(decoding, seconds([&] {
                          reconstruct(code, code.values.data(), sae.weights.decoder, batch.base,
                                      batch.target, {batch.latents}, residual_scale(batch));
                        }));
    ordering = std::min(ordering, seconds([&] { by_latent(code); }));
  }
  return {{"pack", pack},
          {"products", products},
          {"selection", selection - products},
          {"decoding", decoding},
          {"ordering", ordering}};
}

}  // namespace

int main(int count, char** arguments) {
  const std::vector<std::string> words(arguments + 1, arguments + count);
  const auto number = [&](const char* name, int otherwise) {
    const auto found = std::find(words.begin(), words.end(), name);
    return found == words.end() ? otherwise : std::stoi(found[1]);
  };
  try {
    at::set_num_threads(number("--threads", 2));
    at::mm(at::ones({512, 512}),
           at::ones({512, 512}));  // what the threads and the libraries take is not the step's
    const double baseline = status_bytes("VmRSS"), files = status_bytes("RssFile");
    test::RawCase raw = test::read_case(words.at(0));
    const int64_t batch = raw.json.at("batch").get<int64_t>(), batches = raw.x.size(0) / batch;
    std::ofstream("/proc/self/clear_refs") << 5;  // the peak counts from here

    Adam adam = make_adam(raw.sae.weights);
    Parameters gradients;
    std::vector<double> steps;
    double least_gradients = 1e9, least_update = 1e9, l0 = 0;
    for (int step = 0; step < number("--steps", 8); ++step) {
      const ObjectiveInput input{.x = raw.x.narrow(0, step % batches * batch, batch),
                                 .dead = raw.input.dead};
      const double gradient_seconds =
          seconds([&] { l0 = loss_and_gradients(raw.sae, input, raw.options, gradients).l0; });
      const double update_seconds =
          seconds([&] { update(adam, raw.sae.weights, gradients, raw.json.value("lr", 0.0), {}); });
      steps.push_back(gradient_seconds + update_seconds);
      least_gradients = std::min(least_gradients, gradient_seconds);
      least_update = std::min(least_update, update_seconds);
    }
    double parameters = 0;
    raw.sae.weights.visit(
        [&](const char*, const at::Tensor& tensor) { parameters += double(tensor.nbytes()); });
    Json report = {
        {"steps", steps},
        {"loss_and_gradients", least_gradients},
        {"update", least_update},
        {"l0", l0},
        {"parameter_bytes", parameters},
        {"data_bytes", double(raw.x.nbytes())},
        {"batch_bytes", double(raw.x.nbytes()) / double(batches)},
        // Not the libraries' pages that were read meanwhile.
        {"peak_bytes", status_bytes("VmHWM") - baseline - (status_bytes("RssFile") - files)}};
    if (std::find(words.begin(), words.end(), "--phases") != words.end())
      report["phases"] = phases(raw.sae, {.x = raw.x.narrow(0, 0, batch)}, raw.options);
    std::puts(report.dump().c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench-sae: %s\n", error.what());
    return 1;
  }
}
