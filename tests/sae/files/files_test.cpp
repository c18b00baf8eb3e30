#include "sae/files/autoencoder_file.h"

#include <algorithm>
#include <functional>

#include "core/formats/tensor_file.h"
#include "core/io/files.h"
#include "sae/files/hook_names.h"
#include "sae/files/saelens.h"
#include "tests/sae/random_autoencoder.h"
#include "tests/torch_support.h"

using namespace vyx::sae;
using vyx::Json;
using vyx::TensorMap;
using vyx::test::all_architectures;
using vyx::test::contains;
using vyx::test::error_of;
using vyx::test::random_autoencoder;
using vyx::test::TemporaryFolder;

namespace {

constexpr int64_t kWidth = 6, kLatents = 20;

at::Tensor inputs() {
  return vyx::test::normal({9, kWidth}, 7);
}

Autoencoder sample(Architecture architecture) {
  Autoencoder sae = random_autoencoder(architecture, kWidth, kLatents);
  if (architecture == Architecture::batch_topk) sae.topk_threshold = 0.375;
  sae.config.sites = {"model.layers.3:output"};
  sae.config.metadata = {{"model_name", "tiny"}, {"tokens", 1000}};
  return sae;
}

Autoencoder transcoder(Architecture architecture, bool skip) {
  Autoencoder sae = sample(architecture);
  sae.config.d_out = kWidth + 2;
  sae.config.subtract_decoder_bias = false;
  sae.config.target_sites = {"model.layers.3.mlp:output"};
  auto generator = at::make_generator<at::CPUGeneratorImpl>(2);
  sae.weights.decoder = at::randn({kLatents, kWidth + 2}, generator);
  sae.weights.decoder_bias = at::randn({kWidth + 2}, generator);
  if (skip) sae.weights.skip = at::randn({kWidth + 2, kWidth}, generator);
  return sae;
}

// The same latents and the same reconstruction of the same inputs.
void check_same(const Autoencoder& actual, const Autoencoder& expected) {
  const at::Tensor x = inputs();
  CHECK(actual.config.architecture == expected.config.architecture);
  CHECK(at::allclose(encode(actual, x), encode(expected, x), 1e-5, 1e-6));
  CHECK(at::allclose(reconstruct(actual, x), reconstruct(expected, x), 1e-5, 1e-6));
  CHECK((encode(expected, x) > 0).any().item<bool>());
}

// Writes `sae`, lets `change` spoil the folder, and returns what reading it says.
std::string refusal(const std::function<void(const TemporaryFolder&)>& change,
                    Architecture architecture = Architecture::topk) {
  const TemporaryFolder folder;
  save_autoencoder(sample(architecture), folder.path());
  change(folder);
  const std::string message = error_of([&] { load_autoencoder(folder.path()); });
  CHECK_FALSE(contains(message, "\n"));
  return message;
}

void change_tensors(const TemporaryFolder& folder, const std::function<void(TensorMap&)>& change) {
  TensorMap tensors = vyx::read_safetensors(folder / "sae_weights.safetensors").tensors;
  change(tensors);
  vyx::write_safetensors(folder / "sae_weights.safetensors", tensors);
}

void change_config(const std::filesystem::path& folder, const std::function<void(Json&)>& change) {
  Json config = vyx::parse_json(vyx::read_text_file(folder / "cfg.json"), "cfg.json");
  change(config);
  vyx::write_file(folder / "cfg.json", config.dump());
}

}  // namespace

TEST_CASE("[sae.files] SAELens's format holds every architecture, bit for bit") {
  for (const Architecture architecture : all_architectures()) {
    const TemporaryFolder folder;
    const Autoencoder sae = sample(architecture);
    save_autoencoder(sae, folder / "sae");
    const Autoencoder read = load_autoencoder(folder / "sae");
    CHECK(read.config.architecture == architecture);
    CHECK(at::equal(encode(read, inputs()), encode(sae, inputs())));
    CHECK(at::equal(reconstruct(read, inputs()), reconstruct(sae, inputs())));
    CHECK(read.config.sites == sae.config.sites);
    CHECK(read.config.metadata["model_name"] == "tiny");
    CHECK(read.config.metadata["tokens"] == 1000);
    if (architecture == Architecture::topk || architecture == Architecture::batch_topk)
      CHECK(read.config.k == sae.config.k);
    CHECK(read.topk_threshold == sae.topk_threshold);
    save_autoencoder(read, folder / "again");
    for (const char* name : {"cfg.json", "sae_weights.safetensors"})
      CHECK(vyx::read_text_file(folder / "again" / name) ==
            vyx::read_text_file(folder / "sae" / name));
  }
}

TEST_CASE(
    "[sae.files] prefixes, normalisation, transcoders and crosscoders survive SAELens's format") {
  const auto round_trip = [](const Autoencoder& sae) {
    const TemporaryFolder folder;
    save_autoencoder(sae, folder / "sae");
    return load_autoencoder(folder / "sae");
  };
  Autoencoder matryoshka = sample(Architecture::batch_topk);
  matryoshka.config.prefixes = {5, 10, kLatents};
  CHECK(round_trip(matryoshka).config.prefixes == matryoshka.config.prefixes);
  check_same(round_trip(matryoshka), matryoshka);
  for (const Normalization normalization :
       {Normalization::scale, Normalization::token_norm, Normalization::layer_norm}) {
    Autoencoder sae = sample(Architecture::jump_relu);
    sae.config.normalization = normalization;
    sae.config.scales = {0.5};
    check_same(round_trip(sae), sae);
    CHECK(round_trip(sae).config.normalization ==
          (normalization == Normalization::scale ? Normalization::none : normalization));
  }
  for (const Architecture architecture : all_architectures())
    for (const bool skip : {false, true}) {
      const Autoencoder sae = transcoder(architecture, skip), read = round_trip(sae);
      check_same(read, sae);
      CHECK(read.config.d_out == kWidth + 2);
      CHECK(read.config.target_sites == sae.config.target_sites);
    }
  Autoencoder same_width =
      sample(Architecture::gated);  // x − b_dec is folded: SAELens's transcoders have none
  same_width.config.target_sites = {"model.layers.3.mlp:output"};
  check_same(round_trip(same_width), same_width);
  CHECK_FALSE(round_trip(same_width).config.subtract_decoder_bias);
  Autoencoder crosscoder = sample(Architecture::relu);
  crosscoder.config.sites = {"model.layers.3:output", "model.layers.4:output"};
  CHECK(round_trip(crosscoder).config.sites == crosscoder.config.sites);
}

TEST_CASE("[sae.files] the other formats give back what they hold") {
  struct Case {
    FileFormat format;
    Architecture architecture;
    bool subtract = true, layer_norm = false;
  };
  const Case cases[] = {{FileFormat::sparsify, Architecture::topk},
                        {FileFormat::sparsify, Architecture::topk, false},
                        {FileFormat::dictionary_learning, Architecture::relu},
                        {FileFormat::dictionary_learning, Architecture::relu, false},
                        {FileFormat::dictionary_learning, Architecture::gated},
                        {FileFormat::dictionary_learning, Architecture::gated, false},
                        {FileFormat::dictionary_learning, Architecture::topk},
                        {FileFormat::dictionary_learning, Architecture::batch_topk},
                        {FileFormat::dictionary_learning, Architecture::jump_relu},
                        {FileFormat::openai, Architecture::topk, true, true},
                        {FileFormat::openai, Architecture::relu, false},
                        {FileFormat::gemma_scope, Architecture::jump_relu, false},
                        {FileFormat::gemma_scope, Architecture::jump_relu},
                        {FileFormat::gemma_scope_2, Architecture::jump_relu, false}};
  for (const auto& [format, architecture, subtract, layer_norm] : cases) {
    CAPTURE(name_of(format));
    CAPTURE(name_of(architecture));
    const TemporaryFolder folder;
    Autoencoder sae = sample(architecture);
    sae.config.subtract_decoder_bias = subtract;
    if (layer_norm) sae.config.normalization = Normalization::layer_norm;
    const auto path = folder / (format == FileFormat::openai ? "sae.pt" : "sae");
    save_autoencoder(sae, path, format);
    CHECK(recognise_format(path) == format);
    check_same(load_autoencoder(path), sae);
  }
}

TEST_CASE("[sae.files] skip connections and prefixes in other formats; thresholds as JumpReLU") {
  const TemporaryFolder folder;
  Autoencoder skip = transcoder(Architecture::jump_relu, true);
  save_autoencoder(skip, folder / "gemma", FileFormat::gemma_scope_2);
  check_same(load_autoencoder(folder / "gemma"), skip);
  CHECK(load_autoencoder(folder / "gemma").config.target_sites == skip.config.target_sites);

  Autoencoder sparsify = sample(Architecture::topk);
  sparsify.weights.skip = vyx::test::normal({kWidth, kWidth}, 3);
  save_autoencoder(sparsify, folder / "sparsify", FileFormat::sparsify);
  check_same(load_autoencoder(folder / "sparsify"), sparsify);

  Autoencoder matryoshka = sample(Architecture::batch_topk);
  matryoshka.config.prefixes = {5, 10, kLatents};
  save_autoencoder(matryoshka, folder / "dl", FileFormat::dictionary_learning);
  check_same(load_autoencoder(folder / "dl"), matryoshka);
  CHECK(load_autoencoder(folder / "dl").config.prefixes == matryoshka.config.prefixes);
  std::filesystem::remove(folder / "dl" / "config.json");
  CHECK(load_autoencoder(folder / "dl" / "ae.pt").config.prefixes == matryoshka.config.prefixes);

  for (const Architecture architecture : {Architecture::relu, Architecture::batch_topk}) {
    const Autoencoder sae = sample(architecture);
    save_autoencoder(sae, folder / "npz", FileFormat::gemma_scope);
    const Autoencoder read = load_autoencoder(folder / "npz");
    CHECK(read.config.architecture == Architecture::jump_relu);
    CHECK(at::allclose(encode(read, inputs()), encode(sae, inputs()), 1e-5, 1e-6));
  }
}

TEST_CASE("[sae.files] what a format lacks is refused, and nothing is written") {
  const auto error = [](const Autoencoder& sae, FileFormat format) {
    const TemporaryFolder folder;
    const std::string message = error_of([&] { save_autoencoder(sae, folder / "sae", format); });
    CHECK(std::filesystem::is_empty(folder.path()));
    return message;
  };
  CHECK(contains(error(sample(Architecture::relu), FileFormat::sparsify),
                 "found a relu autoencoder from 6 to 6, expected topk"));
  CHECK(contains(error(transcoder(Architecture::relu, false), FileFormat::dictionary_learning),
                 "found a transcoder"));
  CHECK(contains(error(sample(Architecture::topk), FileFormat::openai),
                 "expected topk with layer_norm"));
  CHECK(contains(error(sample(Architecture::gated), FileFormat::gemma_scope),
                 "found architecture gated"));
  CHECK(contains(error(transcoder(Architecture::relu, true), FileFormat::gemma_scope),
                 "found a skip connection"));
  Autoencoder normalised = sample(Architecture::relu);
  normalised.config.normalization = Normalization::token_norm;
  for (const FileFormat format :
       {FileFormat::dictionary_learning, FileFormat::openai, FileFormat::gemma_scope})
    CHECK_FALSE(error(normalised, format).empty());
  Autoencoder broken = sample(Architecture::relu);
  broken.weights.encoder = broken.weights.encoder.t();
  CHECK(contains(error(broken, FileFormat::saelens),
                 "found W_enc of shape [6, 20], expected [20, 6]"));
}

TEST_CASE("[sae.files] SAELens: flat configs of versions 3 to 5") {
  const TemporaryFolder folder;
  const Autoencoder relu = sample(Architecture::relu), topk = sample(Architecture::topk);
  save_autoencoder(relu, folder / "relu");
  vyx::write_file(folder / "relu" / "cfg.json",
                  R"({"d_in": 6, "d_sae": 20, "dtype": "torch.float32", "device": "cuda",
       "hook_point": "blocks.7.hook_resid_pre",
      "model_name": "gpt2", "activation_fn_str": "relu", "normalize_activations": false,
      "sae_lens_version": "3.2.0"})");
  Autoencoder read = load_autoencoder(folder / "relu");
  check_same(read, relu);
  CHECK(read.config.sites == std::vector<std::string>{"model.layers.7:input"});
  CHECK(read.config.metadata["model_name"] == "gpt2");

  save_autoencoder(topk, folder / "topk");
  vyx::write_file(
      folder / "topk" / "cfg.json",
      R"({"d_in": 6, "d_sae": 20, "architecture": "standard", "activation_fn_str": "topk",
       "activation_fn_kwargs": {"k": 4},
      "apply_b_dec_to_input": true, "normalize_activations": null})");
  check_same(load_autoencoder(folder / "topk"), topk);
  change_config(folder / "topk", [](Json& config) { config["activation_fn_str"] = "tanh-relu"; });
  CHECK(contains(error_of([&] { load_autoencoder(folder / "topk"); }),
                 "\"activation_fn\": found \"\\\"tanh-relu\\\"\", expected relu or topk"));
}

TEST_CASE("[sae.files] SAELens: what it does in addition is folded into the weights") {
  const TemporaryFolder folder;
  const at::Tensor x = inputs();
  const Autoencoder plain = sample(Architecture::topk);
  save_autoencoder(plain, folder / "rescaled");
  change_config(folder / "rescaled",
                [](Json& config) { config["rescale_acts_by_decoder_norm"] = true; });
  const Autoencoder rescaled = load_autoencoder(folder / "rescaled");
  const at::Tensor norms = plain.weights.decoder.norm(2, {1});  // [latents]
  const at::Tensor z = ((x - plain.weights.decoder_bias).matmul(plain.weights.encoder.t()) +
                        plain.weights.encoder_bias) *
                       norms;
  const auto [values, indices] = z.topk(plain.config.k, -1);
  const at::Tensor f = at::zeros_like(z).scatter(-1, indices, values.relu());
  CHECK(at::allclose(encode(rescaled, x), f, 1e-5, 1e-6));
  CHECK(at::allclose(reconstruct(rescaled, x),
                     (f / norms).matmul(plain.weights.decoder) + plain.weights.decoder_bias, 1e-5,
                     1e-5));

  save_autoencoder(sample(Architecture::relu), folder / "scaled");
  change_config(folder / "scaled",
                [](Json& config) { config["normalize_activations"] = "expected_average_only_in"; });
  CHECK(contains(error_of([&] { load_autoencoder(folder / "scaled"); }),
                 "expected the scale in activation_scaler.json"));
  vyx::write_file(folder / "scaled" / "activation_scaler.json", R"({"scaling_factor": 0.5})");
  Autoencoder scaled = sample(Architecture::relu);
  scaled.config.normalization = Normalization::scale;
  scaled.config.scales = {0.5};
  check_same(load_autoencoder(folder / "scaled"), scaled);

  save_autoencoder(sample(Architecture::jump_relu), folder / "logarithm");
  TensorMap tensors =
      vyx::read_safetensors(folder / "logarithm" / "sae_weights.safetensors").tensors;
  tensors["log_threshold"] = tensors["threshold"].log();
  tensors.erase("threshold");
  vyx::write_safetensors(folder / "logarithm" / "sae_weights.safetensors", tensors);
  check_same(load_autoencoder(folder / "logarithm"), sample(Architecture::jump_relu));
}

TEST_CASE("[sae.files] SAELens: the sparsity is written beside") {
  const TemporaryFolder folder;
  const at::Tensor sparsity = at::linspace(-5, 0, kLatents);
  write_saelens(sample(Architecture::relu), folder / "sae", sparsity);
  CHECK(at::equal(
      vyx::read_safetensors(folder / "sae" / "sparsity.safetensors").tensors.at("sparsity"),
      sparsity));
}

TEST_CASE("[sae.files] weights in half precision are read as float32") {
  const TemporaryFolder folder;
  const Autoencoder sae = sample(Architecture::relu);
  save_autoencoder(sae, folder / "sae");
  TensorMap tensors = vyx::read_safetensors(folder / "sae" / "sae_weights.safetensors").tensors;
  for (auto& [name, tensor] : tensors) tensor = tensor.to(at::kBFloat16);
  vyx::write_safetensors(folder / "sae" / "sae_weights.safetensors", tensors);
  CHECK(at::equal(load_autoencoder(folder / "sae").weights.decoder,
                  sae.weights.decoder.to(at::kBFloat16).to(at::kFloat)));
}

TEST_CASE(
    "[sae.files.hostile] tensors that are missing, misshapen, of another kind, unknown or not "
    "finite are named") {
  const auto with = [](const std::function<void(TensorMap&)>& change) {
    return refusal([&](const TemporaryFolder& folder) { change_tensors(folder, change); });
  };
  CHECK(contains(with([](TensorMap& tensors) { tensors.erase("b_enc"); }),
                 "sae_weights.safetensors: tensor \"b_enc\": found nothing, expected [20]"));
  CHECK(contains(with([](TensorMap& tensors) { tensors["W_enc"] = tensors["W_enc"].t(); }),
                 "tensor \"W_enc\": found shape [20, 6], expected [6, 20]"));
  CHECK(contains(with([](TensorMap& tensors) { tensors["b_dec"] = at::zeros({7}); }),
                 "tensor \"b_dec\": found shape [7], expected [6]"));
  CHECK(contains(with([](TensorMap& tensors) { tensors["b_dec"] = at::zeros({6}, at::kInt); }),
                 "tensor \"b_dec\": found Int, expected floating-point"));
  CHECK(contains(with([](TensorMap& tensors) { tensors["W_extra"] = at::zeros({1}); }),
                 "tensor \"W_extra\": found in the file"));
  CHECK(contains(with([](TensorMap& tensors) { tensors["W_dec"][0][0] = NAN; }),
                 "found NaN or infinity in W_dec"));
  CHECK(contains(with([](TensorMap& tensors) { tensors["scaling_factor"] = at::full({20}, 2.0); }),
                 "found factors that are not 1"));
}

TEST_CASE("[sae.files.hostile] in every format, a tensor that is not there is named") {
  struct Case {
    FileFormat format;
    Autoencoder sae;
    const char* file;
    std::vector<std::string> spare = {};  // its result is the same without
  };
  Autoencoder layer_norm = sample(Architecture::topk),
              matryoshka = sample(Architecture::batch_topk), skip = sample(Architecture::topk);
  layer_norm.config.normalization = Normalization::layer_norm;
  matryoshka.config.prefixes = {5, kLatents};
  skip.weights.skip = vyx::test::normal({kWidth, kWidth}, 3);
  const std::vector<std::string> counters{"stats_last_nonzero", "latents_activation_frequency",
                                          "latents_mean_square"};
  using enum FileFormat;
  const Case cases[] = {
      {saelens, sample(Architecture::gated), "sae_weights.safetensors"},
      {saelens, sample(Architecture::batch_topk), "sae_weights.safetensors"},
      {saelens, transcoder(Architecture::relu, true), "sae_weights.safetensors"},
      {sparsify, skip, "sae.safetensors"},
      {dictionary_learning, sample(Architecture::gated), "ae.pt"},
      {dictionary_learning, sample(Architecture::jump_relu), "ae.pt"},
      {dictionary_learning, sample(Architecture::topk), "ae.pt", {"k", "threshold"}},
      {dictionary_learning, sample(Architecture::batch_topk), "ae.pt", {"k"}},
      {dictionary_learning, matryoshka, "ae.pt", {"k"}},
      {openai, layer_norm, "sae.pt", counters},
      {gemma_scope, sample(Architecture::jump_relu), "params.npz"},
      {gemma_scope_2, transcoder(Architecture::jump_relu, true), "params.safetensors"}};
  for (const auto& [format, sae, name, spare] : cases) {
    CAPTURE(name_of(format));
    const TemporaryFolder folder;
    const auto file = folder / name, path = format == openai ? file : folder.path();
    save_autoencoder(sae, path, format);
    const bool torch = file.extension() == ".pt";
    const vyx::TorchContent whole =
        torch ? vyx::read_torch(file)
              : vyx::TorchContent{file.extension() == ".npz" ? vyx::read_npz(file)
                                                             : vyx::read_safetensors(file).tensors};
    for (const auto& [missing, tensor] : whole.tensors) {
      CAPTURE(missing);
      vyx::TorchContent rest = whole;
      rest.tensors.erase(missing);
      if (torch)
        vyx::write_torch(file, rest);
      else if (file.extension() == ".npz")
        vyx::write_npz(file, rest.tensors);
      else
        vyx::write_safetensors(file, rest.tensors);
      const bool is_spare = std::find(spare.begin(), spare.end(), missing) != spare.end();
      const std::string message = error_of([&] { load_autoencoder(path); });
      if (is_spare)
        CHECK(message.empty());
      else
        CHECK(contains(message, "tensor \"" + missing + "\": found nothing"));
    }
  }
}

TEST_CASE("[sae.files.hostile] a BatchTopK autoencoder whose threshold is not set yet is refused") {
  const TemporaryFolder folder;
  save_autoencoder(sample(Architecture::batch_topk), folder / "dl",
                   FileFormat::dictionary_learning);
  vyx::TorchContent content = vyx::read_torch(folder / "dl" / "ae.pt");
  content.tensors["threshold"].fill_(-1);
  vyx::write_torch(folder / "dl" / "ae.pt", content);
  CHECK(contains(error_of([&] { load_autoencoder(folder / "dl"); }),
                 "tensor \"threshold\": found -1, which stands for none yet"));
}

TEST_CASE("[sae.files] Gemma Scope 2: one hook point in and out is an autoencoder's") {
  const TemporaryFolder folder;
  const Autoencoder sae = sample(Architecture::jump_relu);
  save_autoencoder(sae, folder / "gemma", FileFormat::gemma_scope_2);
  const Json config =
      vyx::parse_json(vyx::read_text_file(folder / "gemma" / "config.json"), "config.json");
  CHECK(config["hf_hook_point_in"] == "model.layers.3.output");
  CHECK(config["hf_hook_point_out"] == "model.layers.3.output");
  const Autoencoder read = load_autoencoder(folder / "gemma");
  CHECK(read.config.sites == sae.config.sites);
  CHECK(read.config.target_sites.empty());
  check_same(read, sae);
  save_autoencoder(read, folder / "saelens");
  CHECK(contains(vyx::read_text_file(folder / "saelens" / "cfg.json"),
                 "\"architecture\": \"jumprelu\""));
}

TEST_CASE("[sae.files.hostile] configs that are missing, damaged or speak of something else") {
  const auto with = [](const char* key, const Json& value) {
    return refusal([&](const TemporaryFolder& folder) {
      change_config(folder.path(), [&](Json& config) { config[key] = value; });
    });
  };
  CHECK(contains(with("architecture", "temporal"),
                 "cfg.json: \"architecture\": found \"temporal\", expected standard"));
  CHECK(contains(with("architecture", 3), "expected a string"));
  CHECK(contains(with("d_in", 7), "tensor \"W_enc\": found shape [6, 20], expected [7, 20]"));
  CHECK(contains(with("d_sae", -1), "\"d_sae\": found -1"));
  CHECK(contains(with("k", 21), "\"k\": found 21, expected an integer from 1 to 20"));
  CHECK(contains(with("k", 2.5), "\"k\": found 2.5"));
  CHECK(contains(with("normalize_activations", "covariance_whitening"), "folds the whitening"));
  CHECK(contains(with("apply_b_dec_to_input", "yes"), "expected true or false"));
  CHECK(contains(refusal([](const TemporaryFolder& folder) {
                   change_config(folder.path(), [](Json& config) {
                     config.update(Json{{"sae_lens_version", "6.0.0"}, {"metadata", 3}});
                   });
                 }),
                 "\"metadata\": found number, expected an object"));
  CHECK(contains(
      refusal([](const TemporaryFolder& folder) { vyx::write_file(folder / "cfg.json", "{"); }),
      "cfg.json: at byte 1"));
  CHECK(contains(
      refusal([](const TemporaryFolder& folder) { vyx::write_file(folder / "cfg.json", "[]"); }),
      "expected an object"));
  CHECK(contains(
      refusal([](const TemporaryFolder& folder) { std::filesystem::remove(folder / "cfg.json"); }),
      "cfg.json: cannot open"));
  CHECK(contains(refusal([](const TemporaryFolder& folder) {
                   std::filesystem::remove(folder / "sae_weights.safetensors");
                 }),
                 "found none of"));
  CHECK(contains(error_of([] { load_autoencoder("/nowhere"); }), "/nowhere: found nothing there"));
}

TEST_CASE("[sae.files.hostile] pickled autoencoders of other kinds") {
  const TemporaryFolder folder;
  save_autoencoder(sample(Architecture::topk), folder / "dl", FileFormat::dictionary_learning);
  std::filesystem::remove(folder / "dl" / "config.json");
  CHECK(contains(error_of([&] { load_autoencoder(folder / "dl"); }),
                 "found no config.json beside it"));
  vyx::write_file(folder / "dl" / "config.json", R"({"trainer": {"dict_class": "IdentityDict"}})");
  CHECK(contains(error_of([&] { load_autoencoder(folder / "dl"); }),
                 "\"dict_class\": found \"IdentityDict\""));
  vyx::write_torch(folder / "x.pt",
                   {{{"encoder.weight", at::zeros({4})}}, {{"activation", "TopK"}}});
  CHECK(contains(error_of([&] { load_autoencoder(folder / "x.pt"); }),
                 "tensor \"encoder.weight\": found shape [4], expected a matrix"));
  vyx::write_torch(folder / "x.pt", {{}, {{"activation", "Tanh"}}});
  CHECK(contains(error_of([&] { load_autoencoder(folder / "x.pt"); }),
                 "\"activation\": found \"Tanh\", expected ReLU or TopK"));
}

TEST_CASE("[sae.files] hooks of TransformerLens and sites name the same places") {
  for (const auto& [hook, site] :
       {std::pair("blocks.14.hook_resid_post", "model.layers.14:output"),
        {"blocks.0.hook_resid_pre", "model.layers.0:input"},
        {"blocks.3.hook_mlp_out", "model.layers.3.mlp:output"},
        {"blocks.3.attn.hook_z", "model.layers.3.self_attn.o_proj:input"}}) {
    CHECK(site_of_hook(hook) == site);
    CHECK(hook_of_site(site) == hook);
  }
  CHECK(site_of_hook("blocks.x.hook_resid_post").empty());
  // hook_normalized lies before the norm's gain, hook_mlp_in before the norm: no site has them.
  for (const char* hook :
       {"blocks.3.ln2.hook_normalized", "blocks.3.ln1.hook_normalized", "blocks.3.hook_mlp_in",
        "blocks.3.hook_attn_in", "blocks.3.hook_resid_mid", "ln_final.hook_normalized"})
    CHECK(site_of_hook(hook).empty());
  CHECK(hook_of_site("model.layers.3.mlp:input").empty());
  CHECK(hook_of_site("model.norm:output").empty());
}
