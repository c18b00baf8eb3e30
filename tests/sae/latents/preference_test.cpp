#include "tests/torch_support.h"

#include "sae/latents/preference.h"

#include <array>
#include <functional>
#include <limits>

#include "tests/models/tiny_model.h"
#include "tests/sae/random_autoencoder.h"

namespace {

using namespace vyx::sae;
using namespace vyx::test;
using vyx::Site;
using vyx::models::Continuation;
using vyx::models::LanguageModel;
using vyx::models::TokenId;
using Change = std::function<at::Tensor(const at::Tensor& x)>;  // of the site's activation [seq, d]

constexpr double kNoSinks = std::numeric_limits<double>::infinity();

struct Pairs {
  std::vector<Continuation> positive, negative;
};

Pairs pairs_of(const LanguageModel& model) {
  Pairs pairs;
  for (const auto& [prompt, positive, negative] :
       std::vector<std::array<std::string, 3>>{{"How is it?", " glad it is", " sad it was"},
                                               {"And", " I am glad", " so sad"},
                                               {"A", "b", "cde"}}) {
    pairs.positive.push_back({model.encode_prompt(prompt), model.tokenizer().encode(positive)});
    pairs.negative.push_back({model.encode_prompt(prompt), model.tokenizer().encode(negative)});
  }
  return pairs;
}

double likelihood(LanguageModel& model, const Site& site, const Continuation& row,
                  const Change& change) {
  const auto hook = model.module().hook(
      site.name(), [&](const Site&, const c10::IValue& value) -> std::optional<c10::IValue> {
        return change(value.toTensor()[0]).unsqueeze(0);
      });
  std::vector<TokenId> tokens = row.prompt;
  tokens.insert(tokens.end(), row.text.begin(), row.text.end());
  const std::array rows{tokens};
  const at::Tensor each = model.token_log_probabilities(
      vyx::models::make_batch(rows, vyx::models::Padding::right, 0))[0];
  return each.slice(0, each.size(0) - static_cast<int64_t>(row.text.size()))
      .to(at::kDouble)
      .mean()
      .item<double>();
}

double preference(LanguageModel& model, const Site& site, const Pairs& pairs,
                  const Change& change) {
  double sum = 0;
  for (size_t i = 0; i < pairs.positive.size(); ++i)
    sum += likelihood(model, site, pairs.positive[i], change) -
           likelihood(model, site, pairs.negative[i], change);
  return sum / static_cast<double>(pairs.positive.size());
}

}  // namespace

TEST_CASE(
    "[sae.latents.preference] attribution is the derivative of the preference by a latent's scale, "
    "through the model") {
  auto model = tiny_model();
  const Site site = model.block_output(1);
  Autoencoder sae = random_autoencoder(Architecture::topk, 32, 12);
  const Pairs pairs = pairs_of(model);
  const at::Tensor found =
      preference_gradient(model, sae, site, pairs.positive, pairs.negative, kNoSinks)
          .attribution;  // [latents]
  for (const int64_t latent : {0, 5, 11}) {
    CAPTURE(latent);
    constexpr double kStep = 2e-3;
    const auto scaled = [&](double by) {
      return preference(model, site, pairs, [&](const at::Tensor& x) {
        return x + by * encode(sae, x).select(1, latent).unsqueeze(1) * sae.weights.decoder[latent];
      });
    };
    const double difference = (scaled(kStep) - scaled(-kStep)) / (2 * kStep);
    CHECK(found[latent].item<double>() == doctest::Approx(difference).epsilon(2e-2).scale(0.1));
  }
}

TEST_CASE(
    "[sae.latents.preference] the slope is the derivative of the preference by a vector at every "
    "token") {
  auto model = tiny_model();
  const Site site = model.block_output(1);
  const Autoencoder sae = random_autoencoder(Architecture::relu, 32, 12);
  const Pairs pairs = pairs_of(model);
  const at::Tensor slope =
      preference_gradient(model, sae, site, pairs.positive, pairs.negative, kNoSinks).slope;  // [d]
  at::manual_seed(3);
  const at::Tensor vector = at::randn({32});
  constexpr double kStep = 3e-3;
  const auto added = [&](double by) {
    return preference(model, site, pairs, [&](const at::Tensor& x) { return x + by * vector; });
  };
  CHECK((slope * vector).sum().item<double>() ==
        doctest::Approx((added(kStep) - added(-kStep)) / (2 * kStep)).epsilon(2e-2));
}

TEST_CASE(
    "[sae.latents.preference] sides of different number are refused, and sinks attribute nothing") {
  auto model = tiny_model();
  const Site site = model.block_output(1);
  const Autoencoder sae = random_autoencoder(Architecture::relu, 32, 12);
  const Pairs pairs = pairs_of(model);
  CHECK(contains(error_of([&] {
                   preference_gradient(model, sae, site, pairs.positive,
                                       std::span(pairs.negative).first(1), kNoSinks);
                 }),
                 "3 positive and 1 negative"));
  const auto [attribution, slope] =
      preference_gradient(model, sae, site, pairs.positive, pairs.negative, 1e-6);
  CHECK(attribution.count_nonzero().item<int64_t>() == 0);
  CHECK(slope.count_nonzero().item<int64_t>() == 32);
}
