#include "tests/torch_support.h"

#include "sae/latents/output_score.h"

#include <array>

#include "models/activations/logit_lens.h"
#include "tests/models/tiny_model.h"
#include "tests/sae/random_autoencoder.h"

using namespace vyx::sae;
using namespace vyx::test;
using vyx::Site;
using vyx::models::TokenId;

TEST_CASE(
    "[sae.latents.output_score] rank of the most probable promoted token times its probability") {
  const at::Tensor probabilities =
      at::tensor({0.5, 0.2, 0.1, 0.1, 0.06, 0.04}, at::kDouble).repeat({2, 1});
  const at::Tensor tokens = at::tensor({1, 4, 0, 5}, at::kLong).view({2, 2});
  const at::Tensor scores = output_score(probabilities, tokens);
  CHECK(scores[0].item<double>() ==
        doctest::Approx(0.1666667).epsilon(1e-6));  // reference: (1 − 1/6)·.2
  CHECK(scores[1].item<double>() == doctest::Approx(0.5));
}

TEST_CASE("[sae.latents.output_score] is that of each latent raised alone, by hand, in any batch") {
  auto model = tiny_model();
  const Site site = model.block_output(1);
  const std::vector<TokenId> prompt = model.encode_prompt("In my experience,");
  for (const auto normalization :
       {Normalization::none, Normalization::scale, Normalization::token_norm}) {
    CAPTURE(name_of(normalization));
    Autoencoder sae = random_autoencoder(Architecture::relu, 32, 40);
    sae.config.normalization = normalization;
    sae.config.scales = {0.5};
    const std::vector<int64_t> latents = {3, 39, 0, 17, 21};
    const at::Tensor promoted = vyx::models::logit_lens(
        model, sae.weights.decoder.index_select(0, at::tensor(latents, at::kLong)));
    const at::Tensor found = output_scores(model, sae, site, latents, promoted, prompt,
                                           {.factor = 3, .tokens = 5, .batch = 2});
    for (size_t i = 0; i < latents.size(); ++i) {
      // The whole sequence, with the intervened reconstruction and the error in the place of x.
      const auto hook = model.module().hook(
          site.name(), [&](const Site&, const c10::IValue& value) -> std::optional<c10::IValue> {
            const at::Tensor x = value.toTensor()[0][-1];  // [d]
            const at::Tensor f = encode(sae, x), raised = f.clone();
            raised[latents[i]] += 3 * f.max();
            at::Tensor y = value.toTensor().clone();
            y[0][-1] = decode(sae, raised, x) + (x - decode(sae, f, x));
            return y;
          });
      const std::array rows{prompt};
      const at::Tensor probabilities =
          model.logits(vyx::models::make_batch(rows, vyx::models::Padding::right, 0))[0][-1]
              .softmax(-1);
      const at::Tensor tokens = std::get<1>(promoted[static_cast<int64_t>(i)].topk(5));
      const double expected =
          output_score(probabilities.unsqueeze(0), tokens.unsqueeze(0)).item<double>();
      CHECK(found[static_cast<int64_t>(i)].item<double>() ==
            doctest::Approx(expected).epsilon(1e-3));
    }
  }
}

TEST_CASE("[sae.latents.output_score] a prompt on which nothing fires is refused") {
  auto model = tiny_model();
  Autoencoder sae = random_autoencoder(Architecture::relu, 32, 8);
  sae.weights.encoder_bias.fill_(-1e4);
  const std::vector<int64_t> latents = {0};
  const at::Tensor promoted = vyx::models::logit_lens(model, sae.weights.decoder.narrow(0, 0, 1));
  CHECK(contains(error_of([&] {
                   output_scores(model, sae, model.block_output(1), latents, promoted, {5, 6});
                 }),
                 "no latent that fires"));
}
