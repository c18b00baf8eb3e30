#include "apps/compare/continuation_direction.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <utility>
#include <vector>

#include "models/activations/row_activations.h"
#include "steering/effects/effects.h"

namespace vyx::compare {
namespace {

/// Mean over pairs of one side's mean over tokens [d] float64.
at::Tensor side_mean(models::LanguageModel& model,
                     std::span<const steering::ContinuationPair> pairs, bool positive,
                     const Site& site, bool chat) {
  std::vector<std::vector<models::TokenId>> rows;
  std::vector<int64_t> starts;  // [rows]: where the continuation begins
  for (const steering::ContinuationPair& pair : pairs) {
    auto [row, liked, disliked] = steering::encode_pair(model, pair, chat);
    starts.push_back(static_cast<int64_t>(row.size()));
    const std::vector<models::TokenId>& text = positive ? liked : disliked;
    row.insert(row.end(), text.begin(), text.end());
    rows.push_back(std::move(row));
  }
  std::vector<at::Tensor> means;
  models::for_each_batch(model, rows, site, [&](const models::TokenActivations& batch) {
    for (size_t begin = 0, end = 0; begin < batch.places.size();
         begin = end) {  // a row's tokens are in order
      const size_t row = batch.places[begin].row;
      int64_t first = -1;
      for (; end < batch.places.size() && batch.places[end].row == row; ++end)
        if (first < 0 && batch.places[end].position >= starts[row])
          first = static_cast<int64_t>(end);
      if (first >= 0)
        means.push_back(
            batch.x.slice(0, first, static_cast<int64_t>(end)).mean(0, false, at::kDouble));
    }
  });
  return means.empty() ? at::zeros({model.config().spec.d_model}, at::kDouble)
                       : at::stack(means).mean(0);
}

}  // namespace

at::Tensor continuation_direction(models::LanguageModel& model,
                                  std::span<const steering::ContinuationPair> pairs,
                                  const Site& site, bool chat) {
  return side_mean(model, pairs, true, site, chat) - side_mean(model, pairs, false, site, chat);
}

}  // namespace vyx::compare
