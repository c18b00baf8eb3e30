#include "models/activations/last_token_activations.h"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include <array>
#include <numeric>
#include <utility>

#include "core/base/error.h"
#include "core/hooks/activation_reader.h"

namespace vyx::models {
namespace {

/// Runs `batch` behind `cache` and returns the activation of each row's last real token: one tensor
/// [batch, d] float32 per site.
std::vector<at::Tensor> last_activations(LanguageModel& model, std::span<const Site> sites,
                                         KvCache& cache, const Batch& batch) {
  const at::Tensor last = last_positions(batch).to(model.device());       // [batch]
  const at::Tensor rows = at::arange(batch.ids.size(0), last.options());  // [batch]
  return read_once(
      model.module(), sites,
      [&](const Site& site, const c10::IValue& value) {
        return activation_at(site, value, batch.ids.sizes()).index({rows, last}).to(at::kFloat);
      },
      [&] { model.harvest({.ids = batch.ids, .real = batch.mask, .cache = &cache}); });
}

void require_finite(const LanguageModel& model, const at::Tensor& activations, const Site& site) {
  const at::Tensor finite = activations.isfinite().all(1);  // [prompts]
  if (finite.all().item<bool>()) return;
  fail("{}: found NaN or infinity in the activation of prompt {}, expected finite numbers{}",
       site.name(), finite.logical_not().to(at::kLong).argmax().item<int64_t>() + 1,
       range_hint(model.config()));
}

}  // namespace

std::vector<at::Tensor> last_token_activations(LanguageModel& model,
                                               std::span<const std::vector<TokenId>> prompts,
                                               std::span<const Site> sites,
                                               const ActivationOptions& options) {
  if (prompts.empty()) fail("there are no prompts; give at least one");
  if (sites.empty()) fail("there are no sites; give at least one");
  for (size_t i = 0; i < prompts.size(); ++i) {
    if (prompts[i].empty()) fail("prompt {} has no token; give it some text", i + 1);
    model.require_context(static_cast<int64_t>(prompts[i].size()), 0,
                          fmt::format("prompt {}", i + 1));
  }
  const at::NoGradGuard no_grad;
  const TokenId pad = model.pad_token();
  std::vector<PrefixGroup> groups;
  if (options.share_prefixes) {
    groups = group_by_prefix(prompts);
  } else {
    groups.emplace_back().members.resize(prompts.size());
    std::iota(groups[0].members.begin(), groups[0].members.end(), 0);
  }

  const auto nothing = [](const Site&, const c10::IValue&) { return std::nullopt; };
  std::vector<at::Tensor> results(sites.size());  // [prompts, d]
  for (const auto& [prefix_length, members] : groups) {
    KvCache prefix = model.make_cache(1, prefix_length);
    if (prefix_length > 0) {
      const std::vector<TokenId>& any = prompts[members[0]];
      const std::array row{std::vector<TokenId>(any.begin(), any.begin() + prefix_length)};
      // With the sites hooked, it runs as far as the prompts will.
      run_hooked(model.module(), sites, nothing, [&] {
        model.harvest({.ids = make_batch(row, Padding::right, pad).ids, .cache = &prefix});
      });
    }
    std::vector<std::vector<TokenId>> rests;
    std::vector<int64_t> lengths;
    for (const size_t member : members) {
      rests.emplace_back(prompts[member].begin() + prefix_length, prompts[member].end());
      lengths.push_back(static_cast<int64_t>(rests.back().size()));
    }
    for (const auto& rows : batches_by_length(lengths, options.max_batch_tokens)) {
      std::vector<std::vector<TokenId>> tokens;
      std::vector<int64_t> indices;
      uint64_t done = 0;
      for (const size_t row : rows) {
        tokens.push_back(rests[row]);
        indices.push_back(static_cast<int64_t>(members[row]));
        done += prompts[members[row]].size();
      }
      const Batch batch = make_batch(tokens, Padding::right, pad);
      KvCache cache =
          repeat_rows(prefix, static_cast<int64_t>(rows.size()), prefix_length + batch.ids.size(1));
      const at::Tensor places = at::tensor(indices, at::kLong).to(model.device());
      const std::vector<at::Tensor> last = last_activations(model, sites, cache, batch);
      for (size_t i = 0; i < sites.size(); ++i) {
        if (!results[i].defined())
          results[i] =
              at::empty({static_cast<int64_t>(prompts.size()), last[i].size(1)}, last[i].options());
        results[i].index_copy_(0, places, last[i]);
      }
      if (options.on_tokens) options.on_tokens(done);
    }
  }

  for (size_t i = 0; i < sites.size(); ++i) require_finite(model, results[i], sites[i]);
  return results;
}

}  // namespace vyx::models
