#include "sae/latents/reading.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <array>
#include <tuple>

#include "core/base/error.h"
#include "models/activations/last_token_activations.h"
#include "models/activations/row_activations.h"
#include "sae/latents/latent_rows.h"

namespace vyx::sae {
namespace {

using Prompts = std::span<const std::vector<models::TokenId>>;

struct Side {
  LatentRows latents;  // one row per prompt
  models::LeftOut left;
};

void read_last_tokens(models::LanguageModel& model, const Autoencoder& sae, const Site& site,
                      Prompts prompts, const ReadingOptions& options, Side& side) {
  const at::Tensor x = models::last_token_activations(model, prompts, std::span(&site, 1),
                                                      {.on_tokens = options.on_tokens})[0]
                           .cpu();  // [prompts, d]
  std::vector<models::TokenId> last;
  for (const auto& prompt : prompts) last.push_back(prompt.back());
  const auto [keep, left] =
      models::regular_rows(models::facts_of(model.tokenizer(), at::tensor(last, at::kLong)),
                           models::row_norms(x), options.max_norm);
  side.left += left;
  const at::Tensor kept = x.index({keep});  // [prompts that count, d]
  if (kept.size(0) == 0) return;
  for (const at::Tensor& part : encodable_parts(sae, kept)) side.latents.add(encode(sae, part));
}

void read_all_tokens(models::LanguageModel& model, const Autoencoder& sae, const Site& site,
                     Prompts prompts, const ReadingOptions& options, Side& side) {
  const auto visit = [&](const models::TokenActivations& batch) {
    std::vector<int64_t> prompt_of;  // of each token, among the batch's prompts
    for (size_t t = 0; t < batch.places.size(); ++t) {
      const bool next = t > 0 && batch.places[t].row != batch.places[t - 1].row;
      prompt_of.push_back(t == 0 ? 0 : prompt_of.back() + next);
    }
    if (prompt_of.empty()) return;
    const at::Tensor index = at::tensor(prompt_of, at::kLong);  // [tokens]
    at::Tensor sums = at::zeros({prompt_of.back() + 1, sae.config.latents}, at::kFloat);
    int64_t first = 0;
    for (const at::Tensor& part : encodable_parts(sae, batch.x)) {
      sums.index_add_(0, index.narrow(0, first, part.size(0)), encode(sae, part));
      first += part.size(0);
    }
    side.latents.add(sums / at::bincount(index).unsqueeze(1));
  };
  side.left += models::for_each_batch(
      model, prompts, site, visit, {.max_norm = options.max_norm, .on_tokens = options.on_tokens});
}

}  // namespace

Reading read_sides(models::LanguageModel& model, const Autoencoder& sae, const Site& site,
                   Prompts positive, Prompts negative, const ReadingOptions& options) {
  std::array sides = {Side{LatentRows(sae.config.latents)}, Side{LatentRows(sae.config.latents)}};
  for (const auto& [side, prompts, name] :
       {std::tuple{&sides[0], positive, "positive"}, std::tuple{&sides[1], negative, "negative"}}) {
    (options.all_tokens ? read_all_tokens : read_last_tokens)(model, sae, site, prompts, options,
                                                              *side);
    if (side->latents.rows() == 0)
      fail("{}: found only special tokens and attention sinks on the {} side, expected text; {}",
           site.name(), name, options.all_tokens ? "give other prompts" : "use --positions all");
  }
  return {.separation = separation(sides[0].latents, sides[1].latents),
          .positives = sides[0].latents.rows(),
          .negatives = sides[1].latents.rows(),
          .left = sides[0].left + sides[1].left};
}

}  // namespace vyx::sae
