#include "models/activations/row_activations.h"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include <cmath>

#include "core/base/error.h"
#include "core/hooks/activation_reader.h"

namespace vyx::models {

at::Tensor batch_activations(LanguageModel& model, const Batch& batch, const Site& site) {
  const auto keep = [&](const Site&, const c10::IValue& value) {
    return copy_of(activation_at(site, value, batch.ids.sizes()));
  };
  return read_once(model.module(), std::span(&site, 1), keep,
                   [&] { model.harvest({.ids = batch.ids, .real = batch.mask}); })[0];
}

LeftOut for_each_batch(LanguageModel& model, std::span<const std::vector<TokenId>> rows,
                       const Site& site, const std::function<void(const TokenActivations&)>& visit,
                       const RowActivationOptions& options) {
  const at::NoGradGuard no_grad;
  std::vector<int64_t> lengths;
  for (size_t r = 0; r < rows.size(); ++r) {
    lengths.push_back(static_cast<int64_t>(rows[r].size()));
    model.require_context(lengths.back(), 0, fmt::format("row {}", r + 1));
  }
  LeftOut left;
  for (const std::vector<size_t>& members : batches_by_length(lengths, options.max_batch_tokens)) {
    std::vector<std::vector<TokenId>> tokens;
    for (const size_t member : members) tokens.push_back(rows[member]);
    const Batch run = make_batch(tokens, Padding::right, model.pad_token());
    const at::Tensor x = batch_activations(model, run, site);  // [batch, seq, d]
    const at::Tensor norms = row_norms(x);                     // [batch, seq]
    const RegularRows regular =
        regular_rows(facts_of(model.tokenizer(), run.ids, run.mask), norms, options.max_norm);
    left += regular.left;
    const auto* norm = norms.const_data_ptr<float>();
    const auto* keep = regular.keep.const_data_ptr<bool>();
    TokenActivations batch;
    std::vector<int64_t> chosen;
    uint64_t done = 0;
    for (size_t b = 0; b < members.size(); ++b) {
      done += tokens[b].size();
      for (size_t t = 0; t < tokens[b].size(); ++t) {
        const auto flat = static_cast<int64_t>(b) * x.size(1) + static_cast<int64_t>(t);
        if (!std::isfinite(norm[flat])) {
          fail("{}: found NaN or infinity in the activation of row {}, expected finite numbers{}",
               site.name(), members[b] + 1, range_hint(model.config()));
        }
        if (!keep[flat]) continue;
        chosen.push_back(flat);
        batch.places.push_back({members[b], static_cast<int64_t>(t)});
      }
    }
    batch.x = x.flatten(0, 1).index_select(0, at::tensor(chosen, at::kLong));
    visit(batch);
    if (options.on_tokens) options.on_tokens(done);
  }
  return left;
}

double median_norm(LanguageModel& model, std::span<const std::vector<TokenId>> rows,
                   const Site& site, size_t max_tokens) {
  size_t count = 0;
  for (size_t tokens = 0; count < rows.size() && tokens < max_tokens; ++count)
    tokens += rows[count].size();
  std::vector<at::Tensor> norms;
  for_each_batch(model, rows.first(count), site,
                 [&](const TokenActivations& batch) { norms.push_back(row_norms(batch.x)); });
  const at::Tensor all = norms.empty() ? at::Tensor() : at::cat(norms);  // [tokens]
  if (!all.defined() || all.numel() == 0)
    fail("{}: found no token that is text, expected some; give more text", site.name());
  return all.median().item<double>();
}

}  // namespace vyx::models
