#include "models/activations/last_token_activations.h"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <map>
#include <numeric>
#include <utility>

#include "core/base/error.h"
#include "core/hooks/activation.h"

namespace vyx::models {
namespace {

/// Hooks that copy the last real token's activation of each row to its prompt's place.
class Harvester {
 public:
  Harvester(LanguageModel& model, std::span<const Site> sites, int64_t prompts)
      : prompts_(prompts) {
    for (size_t i = 0; i < sites.size(); ++i) index_[sites[i]] = i;
    results_.resize(sites.size());
    handle_ = model.module().hook(sites, [this](const Site& site, const c10::IValue& value) {
      if (rows_.defined()) store(site, value);
      return std::nullopt;
    });
  }

  /// Runs a batch behind `cache`, the rows being those of the prompts `rows`.
  void run(LanguageModel& model, KvCache& cache, const Batch& batch,
           const std::vector<int64_t>& rows) {
    last_ = last_positions(batch).to(model.device());
    rows_ = at::tensor(rows, at::kLong).to(model.device());
    model.harvest({.ids = batch.ids, .real = batch.mask, .cache = &cache});
    rows_.reset();
  }

  /// One tensor [prompts, d] a site.
  std::vector<at::Tensor> take(std::span<const Site> sites) {
    std::vector<at::Tensor> results;
    for (const Site& site : sites) results.push_back(results_[index_.at(site)]);
    return results;
  }

 private:
  void store(const Site& site, const c10::IValue& value) {
    const auto activation = activation_of(value);  // [batch, seq, d]
    const int64_t batch = rows_.size(0);
    if (!activation || activation->dim() != 3 || activation->size(0) != batch ||
        activation->size(1) <= last_.max().item<int64_t>()) {
      fail("{}: found {}, expected an activation [batch, seq, d]; choose another site", site.name(),
           activation ? fmt::format("shape [{}]", fmt::join(activation->sizes(), ", "))
                      : "no tensor");
    }
    const at::Tensor last = activation->index({at::arange(batch, rows_.options()), last_})
                                .to(at::kFloat);  // [batch, d]
    at::Tensor& result = results_[index_.at(site)];
    if (!result.defined()) result = at::empty({prompts_, last.size(1)}, last.options());
    result.index_copy_(0, rows_, last);
  }

  int64_t prompts_;
  std::map<Site, size_t> index_;
  std::vector<at::Tensor> results_;
  at::Tensor last_,
      rows_;  // of the batch that is running: position of the last real token, prompt [batch]
  HookHandle handle_;  // last, so that no hook outlives what it refers to
};

void require_finite(const at::Tensor& activations, const Site& site) {
  const at::Tensor finite = activations.isfinite().all(1);  // [prompts]
  if (finite.all().item<bool>()) return;
  fail(
      "{}: found NaN or infinity in the activation of prompt {}, expected finite numbers; the "
      "model may be damaged, or float16 too narrow for it",
      site.name(), finite.logical_not().to(at::kLong).argmax().item<int64_t>() + 1);
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

  Harvester harvester(model, sites, static_cast<int64_t>(prompts.size()));
  for (const auto& [prefix_length, members] : groups) {
    KvCache prefix = model.make_cache(1, prefix_length);
    if (prefix_length > 0) {
      const std::vector<TokenId>& any = prompts[members[0]];
      const std::array row{std::vector<TokenId>(any.begin(), any.begin() + prefix_length)};
      model.harvest({.ids = make_batch(row, Padding::right, pad).ids, .cache = &prefix});
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
      harvester.run(model, cache, batch, indices);
      if (options.on_tokens) options.on_tokens(done);
    }
  }

  std::vector<at::Tensor> results = harvester.take(sites);
  for (size_t i = 0; i < sites.size(); ++i) {
    if (!results[i].defined())
      fail("{}: the model's forward never reached this site", sites[i].name());
    require_finite(results[i], sites[i]);
  }
  return results;
}

}  // namespace vyx::models
