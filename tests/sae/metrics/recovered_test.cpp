#include "tests/torch_support.h"

#include "sae/metrics/recovered.h"

#include <algorithm>
#include <array>

#include "core/hooks/activation.h"
#include "tests/models/tiny_model.h"

namespace {

using namespace vyx::sae;
using namespace vyx::test;
using vyx::Site;
using vyx::models::LanguageModel;
using vyx::models::TokenId;
using Rows = std::vector<std::vector<TokenId>>;

constexpr int64_t kWidth = 32;
constexpr const char* kSite = "model.layers.1:output";

/// x̂ = scale·x + bias, exactly: each coordinate has a latent for either sign.
Autoencoder linear_autoencoder(double scale, const at::Tensor& bias = at::zeros({kWidth})) {
  Autoencoder sae;
  sae.config = {.architecture = Architecture::relu,
                .d_in = kWidth,
                .d_out = kWidth,
                .latents = 2 * kWidth,
                .subtract_decoder_bias = false,
                .sites = {kSite}};
  sae.weights.encoder = at::cat({at::eye(kWidth), -at::eye(kWidth)});
  sae.weights.encoder_bias = at::zeros({2 * kWidth});
  sae.weights.decoder = sae.weights.encoder * scale;
  sae.weights.decoder_bias = bias;
  return sae;
}

/// Log-probabilities [seq, vocabulary] of one row alone while rows chosen by `chosen` [seq] of the
/// site become change(x) [seq, d].
at::Tensor log_probabilities(LanguageModel& model, const std::vector<TokenId>& row,
                             const at::Tensor& chosen,
                             const std::function<at::Tensor(const at::Tensor&)>& change) {
  const auto hook = model.module().hook(
      kSite, [&](const Site&, const c10::IValue& value) -> std::optional<c10::IValue> {
        const at::Tensor x = vyx::activation_of(value)->index({0});
        return vyx::with_activation(value,
                                    at::where(chosen.unsqueeze(1), change(x), x).unsqueeze(0));
      });
  const std::array rows{row};
  return model.logits(vyx::models::make_batch(rows, vyx::models::Padding::right, 0))[0]
      .to(at::kDouble)
      .log_softmax(-1);
}

at::Tensor is_quiet(const std::vector<TokenId>& row) {  // [seq] bool: neither special nor loud
  std::vector<int64_t> quiet;
  for (const TokenId token : row) quiet.push_back(token >= 3 && token != 3 + kLoud);
  return at::tensor(quiet, at::kLong).to(at::kBool);
}

const std::vector<std::string> kTexts = {"some text to measure", "a", "Q is loud<|im_end|>",
                                         "here and there", "<|im_start|>the end"};

}  // namespace

TEST_CASE("[sae.recovered] losses are those of each row alone, replaced by hand") {
  auto model = loud_model();
  const Rows rows = rows_of(model, kTexts);
  const Recovered result =
      measure_recovered(model, linear_autoencoder(0.7), rows, {.max_batch_tokens = 48});

  std::vector<at::Tensor> kept;  // of the site's activations, for their mean
  for (const auto& row : rows) {
    const auto keep = [&](const at::Tensor& x) {
      return kept.push_back(x.index({is_quiet(row)})), x;
    };
    log_probabilities(model, row, is_quiet(row), keep);
  }
  const at::Tensor mean = at::cat(kept).mean(0);
  const std::array<std::function<at::Tensor(const at::Tensor&)>, 4> changes = {
      [](const at::Tensor& x) { return x; }, [](const at::Tensor& x) { return 0.7 * x; },
      [](const at::Tensor& x) { return at::zeros_like(x); },
      [&](const at::Tensor& x) { return mean.expand_as(x); }};
  const std::array losses = {result.clean, result.reconstruction, result.zero, result.mean};
  for (size_t i = 0; i < changes.size(); ++i) {
    CAPTURE(i);
    double cross_entropy = 0, kl = 0;
    int64_t tokens = 0;
    for (const auto& row : rows) {
      const auto n = static_cast<int64_t>(row.size()) - 1;
      const at::Tensor clean =
          log_probabilities(model, row, is_quiet(row), changes[0]).slice(0, 0, n);
      const at::Tensor changed =
          log_probabilities(model, row, is_quiet(row), changes[i]).slice(0, 0, n);
      cross_entropy -= changed.gather(1, at::tensor(row, at::kLong).slice(0, 1).unsqueeze(1))
                           .sum()
                           .item<double>();
      kl += (clean.exp() * (clean - changed)).sum().item<double>();
      tokens += n;
    }
    CHECK(result.tokens == tokens);
    CHECK(losses[i].cross_entropy ==
          doctest::Approx(cross_entropy / static_cast<double>(tokens)).epsilon(1e-4));
    CHECK(losses[i].kl == doctest::Approx(kl / static_cast<double>(tokens)).epsilon(1e-3));
  }
  CHECK(result.zero.kl > 0.1);
  CHECK(result.cross_entropy_score(result.zero) ==
        doctest::Approx((result.zero.cross_entropy - result.reconstruction.cross_entropy) /
                        (result.zero.cross_entropy - result.clean.cross_entropy)));
  CHECK(result.kl_score(result.mean) ==
        doctest::Approx((result.mean.kl - result.reconstruction.kl) / result.mean.kl));
}

TEST_CASE(
    "[sae.recovered] special tokens and sinks are left as they are, and counted, unless all are "
    "asked for") {
  auto model = loud_model();
  const Rows rows = rows_of(model, kTexts);
  int64_t all = 0, quiet = 0;
  for (const auto& row : rows) {
    all += static_cast<int64_t>(row.size());
    quiet += is_quiet(row).sum().item<int64_t>();
  }
  REQUIRE(all - quiet == 3);
  const Autoencoder sae = linear_autoencoder(0.7);
  const Recovered some = measure_recovered(model, sae, rows);
  const Recovered special = measure_recovered(model, sae, rows, {.replace_special = true});
  const Recovered everything =
      measure_recovered(model, sae, rows, {.sink_threshold = 0, .replace_special = true});
  CHECK(some.replaced == quiet);
  CHECK(some.left == 3);
  CHECK(special.left == 1);
  CHECK(everything.replaced == all);
  CHECK(everything.left == 0);
  CHECK(everything.reconstruction.kl != some.reconstruction.kl);
}

TEST_CASE(
    "[sae.recovered] a perfect autoencoder recovers everything, one of zeros what zero ablation "
    "leaves") {
  auto model = loud_model();
  const Rows rows = rows_of(model, kTexts);
  const Recovered perfect = measure_recovered(model, linear_autoencoder(1), rows);
  CHECK(perfect.reconstruction.kl == doctest::Approx(0).epsilon(1e-6));
  CHECK(perfect.cross_entropy_score(perfect.zero) == doctest::Approx(1).epsilon(1e-4));
  CHECK(perfect.kl_score(perfect.mean) == doctest::Approx(1).epsilon(1e-4));
  const Recovered nothing = measure_recovered(model, linear_autoencoder(0), rows);
  CHECK(nothing.cross_entropy_score(nothing.zero) == doctest::Approx(0).epsilon(1e-6));
  CHECK(nothing.kl_score(nothing.zero) == doctest::Approx(0).epsilon(1e-6));
  CHECK(to_json(nothing)["against_zero"]["kl_score"].get<double>() ==
        nothing.kl_score(nothing.zero));
}

TEST_CASE("[sae.recovered] a transcoder reads its site and replaces its target's") {
  auto model = loud_model();
  const Rows rows = rows_of(model, kTexts);
  Autoencoder skips = linear_autoencoder(1);  // block 1 becomes the identity
  skips.config.sites = {"model.layers.1:input"};
  skips.config.target_sites = {"model.layers.1:output"};
  const Recovered result =
      measure_recovered(model, skips, rows, {.sink_threshold = 0, .replace_special = true});
  double cross_entropy = 0;
  for (const auto& row : rows) {
    at::Tensor input;  // [seq, d]
    const auto before =
        model.module().hook("model.layers.1:input", [&](const Site&, const c10::IValue& value) {
          input = vyx::activation_of(value)->index({0});
          return std::nullopt;
        });
    const auto take_input = [&](const at::Tensor&) { return input; };
    const at::Tensor changed = log_probabilities(
        model, row, at::ones({static_cast<int64_t>(row.size())}, at::kBool), take_input);
    cross_entropy -= changed.slice(0, 0, -1)
                         .gather(1, at::tensor(row, at::kLong).slice(0, 1).unsqueeze(1))
                         .sum()
                         .item<double>();
  }
  CHECK(result.reconstruction.cross_entropy ==
        doctest::Approx(cross_entropy / static_cast<double>(result.tokens)).epsilon(1e-4));
}

TEST_CASE("[sae.recovered] what cannot be measured is an error that says why") {
  auto model = loud_model();
  const Rows rows = rows_of(model, kTexts);
  const auto error = [&](const Autoencoder& sae, const Rows& of) {
    return error_of([&] { measure_recovered(model, sae, of); });
  };
  const Autoencoder good = linear_autoencoder(1);
  Autoencoder lost = good, crosscoder = good, wide = good, early = good;
  lost.config.sites = {"model.layers.7:output"};
  crosscoder.config.sites = {"model.layers.0:output", "model.layers.1:output"};
  wide.config.sites = {"model.layers.1.mlp.gate_proj:output"};
  early.config.sites = {"model.layers.2:output"};
  early.config.target_sites = {kSite};
  CHECK(contains(error(lost, rows), "model.layers.7:output"));
  CHECK(contains(error(crosscoder, rows), "has 2 sites, expected one"));
  CHECK(contains(error(wide, rows), "found activations of width 64, expected 32"));
  CHECK(contains(error(early, rows), "found it called before model.layers.2:output"));
  CHECK(contains(error(good, {}), "there is no text"));
  CHECK(contains(error(good, {{5}, {6}}), "no token that another one predicts"));
  CHECK(contains(error(good, {{0, 1}}), "found no row to replace"));
  CHECK(contains(error(good, {std::vector<TokenId>(600, 7)}),
                 "found 600 tokens, expected at most the context length of 512"));
}
