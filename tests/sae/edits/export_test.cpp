#include "sae/edits/export.h"

#include "core/hooks/script_archive.h"
#include "tests/sae/random_autoencoder.h"
#include "tests/torch_support.h"

using namespace vyx::sae;
using vyx::test::contains;
using vyx::test::random_autoencoder;

namespace {

constexpr int64_t kWidth = 6, kLatents = 20;

at::Tensor call(torch::jit::Module& module, const char* method,
                std::vector<c10::IValue> arguments) {
  const c10::InferenceMode guard;
  return module.get_method(method)(std::move(arguments)).toTensor();
}

}  // namespace

TEST_CASE(
    "[sae.export] encode, decode and forward give vyx's own bits, whatever the architecture and "
    "the normalisation") {
  const vyx::test::TemporaryFolder folder;
  const at::Tensor x = vyx::test::normal({2, 5, kWidth}, 7);
  for (const Architecture architecture : vyx::test::all_architectures())
    for (const Normalization normalization : {Normalization::none, Normalization::scale,
                                              Normalization::token_norm, Normalization::layer_norm})
      for (const bool subtract : {true, false}) {
        CAPTURE(name_of(architecture));
        CAPTURE(static_cast<int>(normalization));
        Autoencoder sae = random_autoencoder(architecture, kWidth, kLatents);
        sae.topk_threshold = 0.3;
        sae.config.normalization = normalization;
        sae.config.scales = {0.5};
        sae.config.subtract_decoder_bias = subtract;
        vyx::save_script(export_script(sae), folder / "sae.pt");
        torch::jit::Module module = vyx::load_script(folder / "sae.pt").module;
        const Autoencoder same = fold_scale(sae);
        const at::Tensor f = encode(same, x);
        CHECK(at::equal(call(module, "encode", {x}), f));
        CHECK(at::equal(call(module, "decode", {f, x}), decode(same, f, x)));
        CHECK(at::equal(call(module, "forward", {x}), decode(same, f, x)));
        CHECK((f > 0).any().item<bool>());
      }
}

TEST_CASE("[sae.export] a transcoder with a skip connection; half precision in") {
  Autoencoder sae = random_autoencoder(Architecture::topk, kWidth, kLatents);
  auto generator = at::make_generator<at::CPUGeneratorImpl>(2);
  sae.config.d_out = 4;
  sae.config.subtract_decoder_bias = false;
  sae.weights.decoder = at::randn({kLatents, 4}, generator);
  sae.weights.decoder_bias = at::randn({4}, generator);
  sae.weights.skip = at::randn({4, kWidth}, generator);
  torch::jit::Module module = export_script(sae);
  const at::Tensor x = at::randn({3, kWidth}, generator).to(at::kHalf);
  CHECK(at::equal(call(module, "forward", {x}), reconstruct(sae, x)));
  std::string message;
  try {
    call(module, "decode", {encode(sae, x)});
  } catch (const std::exception& error) {
    message = error.what();
  }
  CHECK(contains(message, "decode needs x"));
}

TEST_CASE("[sae.export] the weights are parameters that Python can list") {
  const torch::jit::Module module =
      export_script(random_autoencoder(Architecture::gated, kWidth, kLatents));
  std::vector<std::string> names;
  for (const auto& parameter : module.named_parameters()) names.push_back(parameter.name);
  CHECK(names == std::vector<std::string>{"W_enc", "b_gate", "W_dec", "b_dec", "r_mag", "b_mag"});
}
