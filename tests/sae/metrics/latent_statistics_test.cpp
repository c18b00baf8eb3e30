#include "tests/torch_support.h"

#include "sae/metrics/latent_statistics.h"

#include "core/formats/tensor_file.h"
#include "tests/sae/random_autoencoder.h"
#include "tests/sae/training/planted_source.h"

using namespace vyx::sae;
using vyx::sae::test::PlantedSource;
using vyx::test::contains;
using vyx::test::error_of;

TEST_CASE(
    "[sae.latent_statistics] firings and maxima are those of the batches, and survive a file") {
  const vyx::test::TemporaryFolder folder;
  const Autoencoder sae = vyx::test::random_autoencoder(Architecture::jump_relu, 16, 40);
  PlantedSource source({});
  const LatentStatistics statistics = measure_latents(sae, source, 3, 2);
  const at::Tensor f =
      encode(sae, at::cat({source.batch(3), source.batch(4)}));  // [tokens, latents]
  CHECK(statistics.tokens == 128);
  CHECK(at::equal(statistics.firings, (f > 0).sum(0)));
  CHECK(at::allclose(statistics.maximum, f.amax(0)));

  write_latent_statistics(folder / kLatentStatisticsFile, statistics);
  const LatentStatistics read = read_latent_statistics(folder / kLatentStatisticsFile, 40);
  CHECK(read.tokens == 128);
  CHECK(at::equal(read.firings, statistics.firings));
  CHECK(at::equal(read.maximum, statistics.maximum));
}

TEST_CASE("[sae.latent_statistics] a file that is missing or another's says what to do") {
  const vyx::test::TemporaryFolder folder;
  const auto error = [&](int64_t latents) {
    return error_of([&] { read_latent_statistics(folder / "latents.safetensors", latents); });
  };
  CHECK(contains(error(3), "make it with vyx-sae-eval --sae " + folder.path().string() +
                               " --activations STORE --latents-out"));
  write_latent_statistics(folder / "latents.safetensors", LatentStatistics::empty(4));
  CHECK(error(4).empty());
  CHECK(contains(error(3), "found firings as Long [4], expected Long [3]"));
  vyx::write_safetensors(folder / "latents.safetensors", {{"firings", at::zeros({3}, at::kLong)}});
  CHECK(contains(error(3), "found no tensor maximum"));
  vyx::write_safetensors(folder / "latents.safetensors",
                         {{"firings", at::zeros({3}, at::kLong)}, {"maximum", at::full({3}, NAN)}});
  CHECK(contains(error(3), "NaN"));
}
