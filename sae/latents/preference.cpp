#include "sae/latents/preference.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <utility>

#include "core/base/error.h"
#include "models/activations/row_filter.h"
#include "sae/latents/attribution.h"

namespace vyx::sae {
namespace {

models::TokenId token_at(const models::Continuation& row, int64_t position) {
  const auto at = static_cast<size_t>(position);
  return at < row.prompt.size() ? row.prompt[at] : row.text[at - row.prompt.size()];
}

}  // namespace

PreferenceGradient preference_gradient(models::LanguageModel& model, const Autoencoder& sae,
                                       const Site& site,
                                       std::span<const models::Continuation> positive,
                                       std::span<const models::Continuation> negative,
                                       double max_norm,
                                       const std::function<void(uint64_t tokens)>& on_tokens) {
  if (positive.size() != negative.size() || positive.empty())
    fail("found {} positive and {} negative continuations, expected as many of both, at least one",
         positive.size(), negative.size());
  PreferenceGradient result{.attribution = at::zeros({sae.config.latents}, at::kDouble),
                            .slope = at::zeros({sae.config.d_out}, at::kDouble)};
  for (const auto& [side, sign] : {std::pair{positive, 1.0}, std::pair{negative, -1.0}}) {
    const double weight = sign / static_cast<double>(side.size());
    const auto visit = [&, &rows = side](const models::SiteGradients& batch) {
      const at::Tensor gradient = batch.gradient * weight;  // [tokens, d]
      std::vector<models::TokenId> tokens;
      for (const models::TokenPlace& place : batch.places)
        tokens.push_back(token_at(rows[place.row], place.position));
      const at::Tensor keep =
          models::regular_rows(models::facts_of(model.tokenizer(), at::tensor(tokens, at::kLong)),
                               models::row_norms(batch.x), max_norm)
              .keep;  // [tokens]
      result.attribution += attribution(sae, batch.x.index({keep}), gradient.index({keep}));
      result.slope += gradient.sum(0, false, at::kDouble);
      if (on_tokens) on_tokens(batch.places.size());
    };
    models::for_each_gradient(model, side, site, visit);
  }
  return result;
}

}  // namespace vyx::sae
