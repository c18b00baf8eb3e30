#include "models/activations/gradients.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/jit/runtime/graph_executor.h>

#include <algorithm>
#include <utility>

#include "core/base/error.h"
#include "core/hooks/activation.h"
#include "core/hooks/activation_reader.h"
#include "core/hooks/token_mask.h"

namespace vyx::models {
namespace {

/// The hidden states of `batch` [batch, seq, d_model] as a function of `x`, the activation at
/// `site`, from which on they are recorded.
struct Recorded {
  at::Tensor x;  // a leaf [batch, seq, d]
  at::Tensor hidden;
};

Recorded record(LanguageModel& model, const Batch& batch, const Site& site) {
  std::vector<at::Tensor> leaves;
  const auto replace = [&](const Site&, const c10::IValue& value) -> std::optional<c10::IValue> {
    leaves.push_back(activation_at(site, value, batch.ids.sizes()).detach().clone());
    return with_activation(value, leaves.back().requires_grad_(true));
  };
  ForwardCall call = model.call({.ids = batch.ids, .real = batch.mask});
  const TokenMaskScope tokens(call.tokens);
  at::Tensor hidden;
  run_hooked(model.module(), std::span(&site, 1), replace, [&] {
    hidden = model.module().run(call.method, std::move(call.arguments)).toTensor();
  });
  return {.x = only_call(site, leaves), .hidden = hidden};
}

}  // namespace

void for_each_gradient(LanguageModel& model, std::span<const Continuation> rows, const Site& site,
                       const std::function<void(const SiteGradients&)>& visit,
                       int64_t max_batch_tokens) {
  std::vector<int64_t> lengths;
  for (size_t r = 0; r < rows.size(); ++r) {
    const auto& [prompt, text] = rows[r];
    if (prompt.empty() || text.empty())
      fail("continuation {}: found an empty prompt or text, expected tokens in both", r + 1);
    lengths.push_back(static_cast<int64_t>(prompt.size() + text.size()));
    model.require_context(lengths.back(), 0, fmt::format("continuation {}", r + 1));
  }
  const at::AutoGradMode gradients(true);
  const torch::jit::GraphOptimizerEnabledGuard unoptimized(false);
  for (const std::vector<size_t>& members : batches_by_length(lengths, max_batch_tokens)) {
    std::vector<std::vector<TokenId>> tokens;
    std::vector<int64_t> from,
        targets;  // of each token of the texts: where it is predicted (flat), which it is
    std::vector<double> weights;  // 1 / the text's length
    SiteGradients result;
    std::vector<int64_t> real;  // flat places of real tokens
    int64_t seq = 0;
    for (const size_t member : members) seq = std::max(seq, lengths[member]);
    for (size_t b = 0; b < members.size(); ++b) {
      const auto& [prompt, text] = rows[members[b]];
      tokens.push_back(prompt);
      tokens.back().insert(tokens.back().end(), text.begin(), text.end());
      const int64_t begin = static_cast<int64_t>(b) * seq;
      for (size_t t = 0; t < tokens.back().size(); ++t) {
        real.push_back(begin + static_cast<int64_t>(t));
        result.places.push_back({members[b], static_cast<int64_t>(t)});
      }
      for (size_t t = 0; t < text.size(); ++t) {
        from.push_back(begin + static_cast<int64_t>(prompt.size() + t) - 1);
        targets.push_back(text[t]);
        weights.push_back(1.0 / static_cast<double>(text.size()));
      }
    }
    const auto [x, hidden] =
        record(model, make_batch(tokens, Padding::right, model.pad_token()), site);
    const at::Tensor predicting = hidden.flatten(0, 1).index_select(
        0, at::tensor(from, at::kLong).to(model.device()));  // [targets, d]
    const at::Tensor logits = model.module()
                                  .run("logits", {predicting})
                                  .toTensor()
                                  .to(at::kFloat);  // [targets, vocabulary]
    const at::Tensor target = at::tensor(targets, at::kLong).to(model.device()).unsqueeze(1);
    const at::Tensor each = logits.gather(1, target).squeeze(1) - logits.logsumexp(1);  // [targets]
    const at::Tensor total = (each * at::tensor(weights, at::kFloat).to(model.device())).sum();
    // Rows do not see each other: the gradient of the sum holds each row's own.
    at::Tensor gradient;
    if (total.requires_grad())
      gradient =
          torch::autograd::grad({total}, {x}, {}, std::nullopt, false, /*allow_unused=*/true)[0];
    if (!gradient.defined())
      fail("{}: found no gradient there, expected the output to depend on the site; choose another",
           site.name());
    const auto rows_of = [&](const at::Tensor& all) {
      return all.detach()
          .flatten(0, 1)
          .to(at::kCPU, at::kFloat)
          .index_select(0, at::tensor(real, at::kLong));
    };
    result.x = rows_of(x);
    result.gradient = rows_of(gradient);
    if (!result.gradient.isfinite().all().item<bool>())
      fail("{}: found NaN or infinity in the gradient, expected finite numbers{}", site.name(),
           range_hint(model.config()));
    visit(result);
  }
}

}  // namespace vyx::models
