#include "apps/compare/continuation_contrast.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <utility>
#include <vector>

#include "models/activations/row_activations.h"
#include "steering/effects/effects.h"

namespace vyx::compare {
namespace {

/// One side's mean over tokens [pairs, d] float64, and whether there is a token [pairs] bool.
std::pair<at::Tensor, at::Tensor> side_means(models::LanguageModel& model,
                                             std::span<const steering::ContinuationPair> pairs,
                                             bool positive, const Site& site, bool chat) {
  std::vector<std::vector<models::TokenId>> rows;
  std::vector<int64_t> starts;  // [rows]: where the continuation begins
  for (const steering::ContinuationPair& pair : pairs) {
    auto [row, liked, disliked] = steering::encode_pair(model, pair, chat);
    starts.push_back(static_cast<int64_t>(row.size()));
    const std::vector<models::TokenId>& text = positive ? liked : disliked;
    row.insert(row.end(), text.begin(), text.end());
    rows.push_back(std::move(row));
  }
  const auto count = static_cast<int64_t>(pairs.size());
  const at::Tensor means = at::zeros({count, model.config().spec.d_model}, at::kDouble);
  const at::Tensor seen = at::zeros({count}, at::kBool);
  models::for_each_batch(model, rows, site, [&](const models::TokenActivations& batch) {
    for (size_t begin = 0, end = 0; begin < batch.places.size();
         begin = end) {  // a row's tokens are in order
      const size_t row = batch.places[begin].row;
      int64_t first = -1;
      for (; end < batch.places.size() && batch.places[end].row == row; ++end)
        if (first < 0 && batch.places[end].position >= starts[row])
          first = static_cast<int64_t>(end);
      if (first < 0) continue;
      const auto pair = static_cast<int64_t>(row);
      means[pair].copy_(
          batch.x.slice(0, first, static_cast<int64_t>(end)).mean(0, false, at::kDouble));
      seen[pair].fill_(true);
    }
  });
  return {means, seen};
}

}  // namespace

steering::ContrastActivations continuation_contrast(
    models::LanguageModel& model, std::span<const steering::ContinuationPair> pairs,
    const Site& site, bool chat) {
  const auto [positive, positive_seen] = side_means(model, pairs, true, site, chat);
  const auto [negative, negative_seen] = side_means(model, pairs, false, site, chat);
  return steering::rows_of({positive, negative}, positive_seen & negative_seen);
}

}  // namespace vyx::compare
