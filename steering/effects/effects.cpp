#include "steering/effects/effects.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <utility>

#include "core/base/error.h"

namespace vyx::steering {
namespace {

constexpr int64_t kCachedTokens = 2;  // whose log-probabilities stay in a processor's cache

double mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

}  // namespace

EncodedPair encode_pair(const models::LanguageModel& model, const ContinuationPair& pair,
                        bool chat) {
  const auto text = [&](const std::string& side) {
    return model.tokenizer().encode(side, {.special_tokens = false});
  };
  return {.prompt = model.encode_prompt(pair.prompt, chat),
          .positive = text(pair.positive),
          .negative = text(pair.negative)};
}

PreferenceMeter::PreferenceMeter(models::LanguageModel& model,
                                 std::span<const ContinuationPair> pairs, bool chat,
                                 int64_t first_block)
    : model_(model), pairs_(pairs.size()) {
  if (pairs.empty())
    fail("there are no pairs of continuations to measure the shift with; give at least one");
  std::vector<EncodedPair> encoded;
  std::vector<int64_t> lengths;
  for (const ContinuationPair& pair : pairs) {
    const auto& [prompt, positive, negative] = encoded.emplace_back(encode_pair(model, pair, chat));
    lengths.push_back(
        static_cast<int64_t>(prompt.size() + std::max(positive.size(), negative.size())));
    tokens_ += prompt.size() + positive.size() + negative.size();
  }
  for (std::vector<size_t>& members :
       models::batches_by_length(lengths, kBatchTokens / 2)) {  // two rows per pair
    std::vector<std::vector<models::TokenId>> prompts, continuations;
    std::vector<double> tokens;
    for (const size_t i : members) {
      prompts.push_back(std::move(encoded[i].prompt));
      for (std::vector<models::TokenId>* side : {&encoded[i].positive, &encoded[i].negative}) {
        tokens.push_back(static_cast<double>(side->size()));
        continuations.push_back(std::move(*side));
      }
    }
    batches_.push_back({std::move(members), at::tensor(tokens, at::kDouble),
                        ContinuationBatch(model, prompts, continuations, first_block)});
  }
}

std::vector<double> PreferenceMeter::measure() {
  std::vector<double> result(pairs_);
  for (PairBatch& batch : batches_) {
    const at::Tensor means =
        batch.continuations.log_likelihoods(model_) / batch.lengths;  // [2 · pairs]
    for (size_t i = 0; i < batch.pairs.size(); ++i) {
      const auto row = static_cast<int64_t>(2 * i);
      result[batch.pairs[i]] = means[row].item<double>() - means[row + 1].item<double>();
    }
  }
  return result;
}

std::vector<std::vector<models::TokenId>> neutral_windows(const models::Tokenizer& tokenizer,
                                                          std::string_view text, int64_t window,
                                                          int64_t max_tokens) {
  if (window < 1 || max_tokens < 1) {
    throw UsageError(
        fmt::format("a window of {} and at most {} neutral tokens; expected both to be positive",
                    window, max_tokens));
  }
  std::vector<models::TokenId> tokens = tokenizer.encode(text, {.special_tokens = false});
  if (tokens.empty()) fail("the neutral text is empty; the side effect needs some plain prose");
  tokens.resize(std::min(tokens.size(), static_cast<size_t>(max_tokens)));
  std::vector<std::vector<models::TokenId>> windows;
  for (size_t first = 0; first < tokens.size(); first += static_cast<size_t>(window)) {
    const size_t last = std::min(tokens.size(), first + static_cast<size_t>(window));
    windows.emplace_back(tokens.begin() + static_cast<int64_t>(first),
                         tokens.begin() + static_cast<int64_t>(last));
  }
  return windows;
}

NeutralMeter::NeutralMeter(models::LanguageModel& model,
                           std::vector<std::vector<models::TokenId>> windows, int64_t first_block)
    : model_(model), windows_(std::move(windows)) {
  if (windows_.empty())
    fail("there is no neutral text to measure the side effect with; give some plain prose");
  std::map<size_t, std::vector<size_t>> of_length;
  for (size_t i = 0; i < windows_.size(); ++i) of_length[windows_[i].size()].push_back(i);
  for (const auto& [length, members] : of_length) {
    if (length == 0)
      fail("a window of the neutral text is empty; expected at least one token in each");
    const size_t rows = std::max<size_t>(1, kBatchTokens / length);
    for (size_t first = 0; first < members.size(); first += rows) {
      WindowBatch& batch = batches_.emplace_back();
      batch.input.block = first_block;
      std::vector<std::vector<models::TokenId>> tokens;
      for (size_t i = first; i < std::min(members.size(), first + rows); ++i) {
        batch.windows.push_back(members[i]);
        tokens.push_back(windows_[members[i]]);
      }
      batch.ids = models::make_batch(tokens, models::Padding::right, model.pad_token()).ids;
      std::vector<at::Tensor> parts;
      for_each_logits(model_, hidden(batch, {}), [&](int64_t, const at::Tensor& logits) {
        parts.push_back(logits.log_softmax(-1));
      });
      batch.unsteered = at::cat(parts);
    }
  }
}

uint64_t NeutralMeter::tokens() const {
  uint64_t tokens = 0;
  for (const auto& window : windows_) tokens += window.size();
  return tokens;
}

at::Tensor NeutralMeter::hidden(WindowBatch& batch, std::span<const models::TokenId> prefix) {
  const int64_t rows = batch.ids.size(0), seq = batch.ids.size(1),
                before = static_cast<int64_t>(prefix.size());
  models::KvCache cache = model_.make_cache(rows, before + seq);
  if (prefix.empty())
    return model_.extend_from(batch.input, cache, {batch.ids, {}}, /*generated=*/true)
        .flatten(0, 1);
  const std::vector<models::TokenId> tokens(prefix.begin(), prefix.end());
  const at::Tensor ids = at::cat({at::tensor(tokens, at::kLong).expand({rows, before}), batch.ids},
                                 1);  // [rows, before + seq]
  return model_.extend(cache, {ids, {}}, /*generated=*/true).slice(1, before).flatten(0, 1);
}

NeutralEffect NeutralMeter::measure(std::span<const models::TokenId> prefix) {
  std::vector<NeutralEffect> effects(windows_.size());
  for (WindowBatch& batch : batches_) compare(batch, prefix, effects);
  std::vector<at::Tensor> kl, reverse_kl, loss_rise;
  for (const NeutralEffect& effect : effects) {
    kl.push_back(effect.kl);
    reverse_kl.push_back(effect.reverse_kl);
    loss_rise.push_back(effect.loss_rise);
  }
  return {at::cat(kl), at::cat(reverse_kl), at::cat(loss_rise)};
}

/// Puts the effect on each window of the batch in its place.
void NeutralMeter::compare(WindowBatch& batch, std::span<const models::TokenId> prefix,
                           std::vector<NeutralEffect>& effects) {
  const at::NoGradGuard no_grad;
  const int64_t seq = batch.ids.size(1);
  const at::Tensor next = batch.ids.roll(-1, 1).flatten().to(
      model_.device());  // what follows each token, but for the last of a window
  const at::Tensor sums =
      at::empty({3, next.size(0)}, next.options().dtype(at::kDouble));  // KL, reverse KL, loss rise
  const at::Tensor hidden = this->hidden(batch, prefix);                // [rows · seq, d]
  for_each_logits(model_, hidden, [&](int64_t begin, const at::Tensor& logits) {
    at::parallel_for(0, logits.size(0), logits.is_cpu() ? kCachedTokens : logits.size(0),
                     [&](int64_t first, int64_t last) {
                       const int64_t step = logits.is_cpu() ? kCachedTokens : last - first;
                       for (; first < last; first += step) {
                         const int64_t end = std::min(first + step, last);
                         const at::Tensor steered =
                             logits.slice(0, first, end).log_softmax(-1);  // [tokens, vocabulary]
                         const at::Tensor unsteered = batch.unsteered.slice(
                             0, begin + first, begin + end);  // [tokens, vocabulary]
                         const at::Tensor gain = steered - unsteered;
                         const at::Tensor targets =
                             next.slice(0, begin + first, begin + end).unsqueeze(1);  // [tokens, 1]
                         const at::Tensor to =
                             sums.slice(1, begin + first, begin + end);  // [3, tokens]
                         to[0].copy_((steered.exp() * gain).sum(-1, false, at::kDouble));
                         to[1].copy_((unsteered.exp() * gain).sum(-1, false, at::kDouble).neg());
                         to[2].copy_(gain.gather(1, targets).squeeze(1).neg());
                       }
                     });
  });
  // Rounding can fall below 0.
  const at::Tensor kl =
      sums.slice(0, 0, 2).clamp_min(0).cpu().unflatten(1, {-1, seq});             // [2, rows, seq]
  const at::Tensor rise = sums[2].cpu().unflatten(0, {-1, seq}).slice(1, 0, -1);  // [rows, seq − 1]
  for (size_t i = 0; i < batch.windows.size(); ++i) {
    const auto row = static_cast<int64_t>(i);
    effects[batch.windows[i]] = {
        .kl = kl[0][row], .reverse_kl = kl[1][row], .loss_rise = rise[row]};
  }
}

EffectMeter::EffectMeter(models::LanguageModel& model, std::vector<ContinuationPair> pairs,
                         std::string_view neutral, Options options)
    : preferences_(model, pairs, options.chat, options.first_block),
      neutral_(
          model,
          neutral_windows(model.tokenizer(), neutral, options.window, options.max_neutral_tokens),
          options.first_block),
      baseline_(preferences_.measure()) {}

double EffectMeter::baseline_preference() const {
  return mean(baseline_);
}

Effect EffectMeter::measure() {
  Effect effect;
  std::vector<double> shifts = preference();
  for (size_t i = 0; i < shifts.size(); ++i) shifts[i] -= baseline_[i];
  effect.shift = mean(shifts);
  effect.positive_share =
      static_cast<double>(
          std::count_if(shifts.begin(), shifts.end(), [](double shift) { return shift > 0; })) /
      static_cast<double>(shifts.size());

  const at::Tensor kl = neutral_.measure().kl;  // [tokens]
  effect.kl_mean = kl.mean().item<double>();
  effect.kl_p95 = kl.quantile(0.95).item<double>();
  return effect;
}

}  // namespace vyx::steering
