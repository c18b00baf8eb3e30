#include "sae/latents/output_score.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <array>
#include <tuple>

#include "core/base/error.h"
#include "core/edits/attached_edit.h"
#include "core/edits/edit.h"
#include "models/activations/last_token_activations.h"

namespace vyx::sae {

at::Tensor output_score(const at::Tensor& probabilities, const at::Tensor& tokens) {
  const at::Tensor largest = probabilities.gather(1, tokens).amax({1}, /*keepdim=*/true);  // [n, 1]
  // The most probable of the tokens has the smallest rank of them.
  const at::Tensor rank = (probabilities > largest).sum(1);  // [n]
  return (1 - rank.to(probabilities.scalar_type()) / static_cast<double>(probabilities.size(1))) *
         largest.squeeze(1);
}

at::Tensor output_scores(models::LanguageModel& model, const Autoencoder& sae, const Site& site,
                         std::span<const int64_t> latents, const at::Tensor& promoted,
                         const std::vector<models::TokenId>& prompt,
                         const OutputScoreOptions& options) {
  const at::NoGradGuard no_grad;
  const std::array prompts{prompt};
  const at::Tensor x =
      models::last_token_activations(model, prompts, std::span(&site, 1))[0].cpu();  // [1, d]
  const double largest = encode(sae, x).max().item<double>();
  if (!(largest > 0))
    fail(
        "{}: found no latent that fires at the last token of the prompt, expected one; give "
        "another --prompt",
        site.name());
  // A latent's unit moves x̂ by unit · W_dec,i.
  const at::Tensor unit = spread(sae.config, x);  // [1, 1]
  const double amount = options.factor * largest * (unit.defined() ? unit.item<double>() : 1.0);

  // All but the last token are the same for every latent.
  const auto length = static_cast<int64_t>(prompt.size());
  models::KvCache prefix = model.make_cache(1, length - 1);
  if (length > 1) {
    const std::array beginning{std::vector<models::TokenId>(prompt.begin(), prompt.end() - 1)};
    model.extend(prefix, models::make_batch(beginning, models::Padding::right, model.pad_token()));
  }
  const at::Tensor decoder = sae.weights.decoder.to(model.device());  // [latents, d]
  const auto count = static_cast<int64_t>(latents.size());
  std::vector<at::Tensor> scores;
  for (int64_t first = 0; first < count; first += options.batch) {
    const int64_t rows = std::min(options.batch, count - first);
    std::vector<Term> terms;
    for (int64_t i = first; i < first + rows; ++i)
      terms.push_back(Term::add(decoder[latents[static_cast<size_t>(i)]]));
    const AttachedEdit raised =
        attach(model.module(), site, Edit(std::move(terms)),
               {.coefficients = (at::eye(rows) * amount).to(model.device())});
    models::KvCache cache = models::repeat_rows(prefix, rows, length);
    const at::Tensor hidden = model.extend(
        cache,
        {.ids = at::full({rows, 1}, prompt.back(), at::kLong), .mask = {}});  // [rows, 1, d_model]
    raised.require_fired();
    const at::Tensor probabilities =
        model.head(hidden.squeeze(1)).softmax(-1).cpu();  // [rows, vocabulary]
    const at::Tensor tokens =
        std::get<1>(promoted.narrow(0, first, rows).topk(options.tokens, 1));  // [rows, tokens]
    scores.push_back(output_score(probabilities, tokens));
  }
  return at::cat(scores);
}

}  // namespace vyx::sae
