#include "models/activations/row_activations.h"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <fmt/ranges.h>

#include <cmath>
#include <utility>

#include "core/base/error.h"
#include "core/hooks/activation.h"

namespace vyx::models {
namespace {

/// Runs a batch and returns the activation at the hooked site [batch, seq, d] float32, on the CPU.
class Reader {
 public:
  Reader(LanguageModel& model, const Site& site) : model_(model), site_(site) {
    handle_ = model.module().hook(
        std::span(&site_, 1),
        [this](const Site&, const c10::IValue& value) -> std::optional<c10::IValue> {
          if (listening_) take(value);
          return std::nullopt;
        });
  }

  at::Tensor run(const Batch& batch) {
    shape_ = batch.ids.sizes().vec();
    seen_.reset();
    listening_ = true;
    model_.harvest({.ids = batch.ids, .real = batch.mask});
    listening_ = false;
    if (!seen_.defined()) fail("{}: the model's forward never reached this site", site_.name());
    return seen_;
  }

 private:
  void take(const c10::IValue& value) {
    const auto found = activation_of(value);
    if (!found || found->dim() != 3 || found->sizes().slice(0, 2) != at::IntArrayRef(shape_)) {
      fail("{}: found {}, expected an activation [{}, d]; choose another site", site_.name(),
           found ? fmt::format("shape [{}]", fmt::join(found->sizes(), ", ")) : "no tensor",
           fmt::join(shape_, ", "));
    }
    seen_ = found->to(at::kCPU, at::kFloat, false,
                      /*copy=*/true);  // a copy, since the module may go on to write in place
  }

  LanguageModel& model_;
  Site site_;
  std::vector<int64_t> shape_;
  at::Tensor seen_;
  bool listening_ = false;
  HookHandle handle_;  // last, so that no hook outlives what it refers to
};

}  // namespace

LeftOut for_each_batch(LanguageModel& model, std::span<const std::vector<TokenId>> rows,
                       const Site& site, const std::function<void(const TokenActivations&)>& visit,
                       const RowActivationOptions& options) {
  const at::NoGradGuard no_grad;
  std::vector<int64_t> lengths;
  for (size_t r = 0; r < rows.size(); ++r) {
    lengths.push_back(static_cast<int64_t>(rows[r].size()));
    if (lengths.back() > model.config().context_length)
      fail("row {}: found {} tokens, expected at most the model's context of {}", r + 1,
           lengths.back(), model.config().context_length);
  }
  LeftOut left;
  Reader reader(model, site);
  for (const std::vector<size_t>& members : batches_by_length(lengths, options.max_batch_tokens)) {
    std::vector<std::vector<TokenId>> tokens;
    for (const size_t member : members) tokens.push_back(rows[member]);
    const at::Tensor x =
        reader.run(make_batch(tokens, Padding::right, model.pad_token()));  // [batch, seq, d]
    const at::Tensor norms = x.norm(2, {-1}).contiguous();                  // [batch, seq]
    const auto* norm = norms.const_data_ptr<float>();
    TokenActivations batch;
    std::vector<int64_t> chosen;
    uint64_t done = 0;
    for (size_t b = 0; b < members.size(); ++b) {
      done += tokens[b].size();
      for (size_t t = 0; t < tokens[b].size(); ++t) {
        const auto flat = static_cast<int64_t>(b) * x.size(1) + static_cast<int64_t>(t);
        if (!std::isfinite(norm[flat])) {
          fail(
              "{}: found NaN or infinity in the activation of row {}, expected finite numbers; the "
              "model may be damaged, or its type too narrow",
              site.name(), members[b] + 1);
        }
        if (is_regular(model.tokenizer(), tokens[b][t], norm[flat], options.max_norm)) {
          chosen.push_back(flat);
          batch.places.push_back({members[b], static_cast<int64_t>(t)});
        } else {
          (model.tokenizer().is_special(tokens[b][t]) ? left.special : left.sinks) += 1;
        }
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
                 [&](const TokenActivations& batch) { norms.push_back(batch.x.norm(2, {-1})); });
  const at::Tensor all = norms.empty() ? at::Tensor() : at::cat(norms);  // [tokens]
  if (!all.defined() || all.numel() == 0)
    fail("{}: found no token that is text, expected some; give more text", site.name());
  return all.median().item<double>();
}

}  // namespace vyx::models
