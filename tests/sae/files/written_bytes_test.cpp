// What is written is what was always written, byte for byte: files and checkpoints of earlier
// versions stay readable because nothing about them changes unnoticed. A new architecture adds its
// lines; a digest that changes is a new file format.
#include "tests/torch_support.h"
// torch first
#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "core/io/digest.h"
#include "core/io/files.h"
#include "sae/files/autoencoder_file.h"
#include "sae/training/checkpoint.h"

using namespace vyx::sae;
using vyx::test::TemporaryFolder;

namespace {

constexpr int64_t kDimensions = 4, kNumbers = 6;  // d, latents

/// Multiples of 1/64 up to 1: products and sums of them are exact on every machine.
at::Tensor exact(std::vector<int64_t> shape, int64_t seed) {
  const at::Tensor numbers = at::arange(c10::multiply_integers(shape), at::kLong);
  return (((numbers * 37 + seed * 11).remainder(129) - 64).to(at::kFloat) / 64).reshape(shape);
}

Autoencoder exact_autoencoder(Architecture architecture) {
  Autoencoder sae;
  sae.config.architecture = architecture;
  sae.config.d_in = sae.config.d_out = kDimensions;
  sae.config.latents = kNumbers;
  sae.config.k = 2;
  sae.config.sites = {"model.layers.3:output"};
  sae.config.metadata = {{"model_name", "tiny"}, {"tokens", 1000}};
  Parameters& w = sae.weights;
  w.encoder = exact({kNumbers, kDimensions}, 1);
  w.encoder_bias = exact({kNumbers}, 2);
  w.decoder = exact({kNumbers, kDimensions}, 3);
  w.decoder_bias = exact({kDimensions}, 4);
  if (architecture == Architecture::gated) {
    w.magnitude_scale = exact({kNumbers}, 5);
    w.magnitude_bias = exact({kNumbers}, 6);
  }
  if (architecture == Architecture::jump_relu) w.threshold = exact({kNumbers}, 7).abs();
  if (architecture == Architecture::batch_topk) sae.topk_threshold = 0.375;
  return sae;
}

Autoencoder matryoshka() {
  Autoencoder sae = exact_autoencoder(Architecture::batch_topk);
  sae.config.prefixes = {2, kNumbers};
  return sae;
}

Autoencoder exact_transcoder(Architecture architecture, bool skip) {
  Autoencoder sae = exact_autoencoder(architecture);
  sae.config.subtract_decoder_bias = false;
  sae.config.target_sites = {"model.layers.3.mlp:output"};
  if (skip) sae.weights.skip = exact({kDimensions, kDimensions}, 8);
  return sae;
}

Autoencoder normalised(Architecture architecture, Normalization normalization) {
  Autoencoder sae = exact_autoencoder(architecture);
  sae.config.normalization = normalization;
  sae.config.scales = {0.25};
  return sae;
}

/// Of the names and bytes of a folder's files.
std::string digest_of(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) files.push_back(entry);
  std::sort(files.begin(), files.end());
  std::string all;
  for (const auto& file : files)
    all += file.filename().string() + vyx::sha256(vyx::read_text_file(file)) + "\n";
  return vyx::sha256(all).substr(0, 16);
}

std::string written(const Autoencoder& sae, FileFormat format) {
  const TemporaryFolder folder;
  const bool is_file = format == FileFormat::openai;
  save_autoencoder(sae, is_file ? folder / "sae.pt" : folder.path(), format);
  return digest_of(folder.path());
}

std::string checkpointed(const Autoencoder& sae) {
  TrainState state{.sae = sae, .adam = make_adam(sae.weights), .step = 7};
  state.adam.first.decoder = exact({kNumbers, kDimensions}, 9);
  state.adam.steps = 7;
  state.idle = at::arange(kNumbers, at::kLong);
  state.firings = at::arange(kNumbers, at::kLong) * 3;
  state.sums = {3, 0.5, 0.25, 1, 2, 4, 8, 16};
  const TemporaryFolder folder;
  start_checkpoints(folder.path());
  save_checkpoint(folder.path(), state, {{"options", {{"k", 2}}}});
  return digest_of(folder.path());
}

}  // namespace

TEST_CASE("[sae.files] every format's bytes are those that it always had") {
  using enum Architecture;
  using enum FileFormat;
  CHECK(written(exact_autoencoder(relu), saelens) == "eed4ea1f8be0f226");
  CHECK(written(exact_autoencoder(gated), saelens) == "22cb04998dd34ff7");
  CHECK(written(exact_autoencoder(topk), saelens) == "508a725aa0bcfa34");
  CHECK(written(exact_autoencoder(batch_topk), saelens) == "f6729eb3a99926c7");
  CHECK(written(exact_autoencoder(jump_relu), saelens) == "78278a3bd8b6d20d");
  CHECK(written(matryoshka(), saelens) == "d30e46eab9793f8b");
  CHECK(written(exact_transcoder(jump_relu, true), saelens) == "c29b49d4ec9739bc");
  CHECK(written(exact_transcoder(relu, false), saelens) == "52dadeac52b1ba71");
  CHECK(written(normalised(topk, Normalization::layer_norm), saelens) == "e944e97a83515126");
  CHECK(written(normalised(gated, Normalization::scale), saelens) == "03ee7207def8b6d8");
  CHECK(written(exact_autoencoder(relu), dictionary_learning) == "f82ac300285d93d0");
  CHECK(written(exact_autoencoder(gated), dictionary_learning) == "3e411a8c01bc27b1");
  CHECK(written(exact_autoencoder(topk), dictionary_learning) == "dea0e2e8ba430f05");
  CHECK(written(exact_autoencoder(batch_topk), dictionary_learning) == "cec2156c5e81b9df");
  CHECK(written(exact_autoencoder(jump_relu), dictionary_learning) == "31794194902da9c8");
  CHECK(written(matryoshka(), dictionary_learning) == "26150cc8efb54c11");
  CHECK(written(exact_autoencoder(topk), sparsify) == "b541a3bec8c22c40");
  CHECK(written(exact_transcoder(topk, true), sparsify) == "a57727dd7c611f18");
  CHECK(written(exact_autoencoder(relu), openai) == "8a8f05fda4095884");
  CHECK(written(normalised(topk, Normalization::layer_norm), openai) == "0b70d8d86a2a6024");
  CHECK(written(exact_autoencoder(relu), gemma_scope) == "9755c6ffe118ae9c");
  CHECK(written(exact_autoencoder(batch_topk), gemma_scope) == "fc46798fdd8b50fb");
  CHECK(written(exact_autoencoder(jump_relu), gemma_scope) == "38dff7b8633765a3");
  CHECK(written(exact_transcoder(jump_relu, true), gemma_scope_2) == "f4f97d401f2a4d34");
}

TEST_CASE("[sae.checkpoint] a checkpoint's bytes are those that it always had") {
  using enum Architecture;
  CHECK(checkpointed(exact_autoencoder(relu)) == "173e157ec56a7a9f");
  CHECK(checkpointed(exact_autoencoder(gated)) == "32d2ba30c219028c");
  CHECK(checkpointed(exact_autoencoder(batch_topk)) == "1d91f3e909b3224e");
  CHECK(checkpointed(exact_transcoder(jump_relu, true)) == "36b9756a8fdbfec0");
}
