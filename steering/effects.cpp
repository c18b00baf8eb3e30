#include "steering/effects.h"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "core/error.h"

namespace vyx::steering {
namespace {

constexpr int64_t kBatchTokens = 2048;  // of one forward, padding included
constexpr int64_t kHeadTokens = 256;    // of one product with the head: logits of 50 MB at 49,152 tokens of vocabulary

double mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

/// The log-probability of each of `targets` [tokens], predicted from `hidden` [tokens, d]: [tokens] float32.
at::Tensor target_log_probabilities(models::LanguageModel& model, const at::Tensor& hidden, const at::Tensor& targets) {
  std::vector<at::Tensor> parts;
  for (int64_t first = 0; first < targets.size(0); first += kHeadTokens) {
    const at::Tensor logits = model.head(hidden.slice(0, first, first + kHeadTokens));  // [part, vocabulary]
    const at::Tensor chosen = logits.gather(1, targets.slice(0, first, first + kHeadTokens).unsqueeze(1)).squeeze(1);
    parts.push_back(chosen - logits.logsumexp(1));
  }
  return at::cat(parts);
}

at::Tensor real_tokens(const models::Batch& batch) {
  return batch.mask.defined() ? batch.mask : at::ones_like(batch.ids, at::kBool);  // [batch, seq]
}

}  // namespace

PreferenceMeter::PreferenceMeter(models::LanguageModel& model, std::span<const ContinuationPair> pairs, bool chat) : model_(model) {
  if (pairs.empty()) fail("there are no pairs of continuations to measure the shift with; give at least one");
  const models::Tokenizer& tokenizer = model.tokenizer();
  std::vector<int64_t> lengths;
  for (const ContinuationPair& pair : pairs) {
    const EncodedPair& encoded =
        pairs_.emplace_back(EncodedPair{model.encode_prompt(pair.prompt, chat), tokenizer.encode(pair.positive, {.special_tokens = false}),
                                        tokenizer.encode(pair.negative, {.special_tokens = false})});
    lengths.push_back(static_cast<int64_t>(encoded.prompt.size() + std::max(encoded.positive.size(), encoded.negative.size())));
    tokens_ += encoded.prompt.size() + encoded.positive.size() + encoded.negative.size();
  }
  batches_ = models::batches_by_length(lengths, kBatchTokens / 2);  // two rows a pair
}

std::vector<double> PreferenceMeter::measure() {
  std::vector<double> result(pairs_.size());
  for (const auto& batch : batches_) measure(batch, result);
  return result;
}

void PreferenceMeter::measure(std::span<const size_t> batch, std::vector<double>& preference) {
  const at::NoGradGuard no_grad;
  std::vector<std::vector<models::TokenId>> prompts, continuations;
  for (const size_t i : batch) {
    prompts.push_back(pairs_[i].prompt);
    continuations.push_back(pairs_[i].positive);
    continuations.push_back(pairs_[i].negative);
  }
  // A prompt is run once, padded on the left so that its last token stands last; then its two continuations.
  const models::TokenId pad = model_.pad_token();
  const models::Batch prompt = models::make_batch(prompts, models::Padding::left, pad);
  const models::Batch continuation = models::make_batch(continuations, models::Padding::right, pad);
  const int64_t rows = prompt.ids.size(0), capacity = prompt.ids.size(1) + continuation.ids.size(1);
  models::KvCache cache = model_.make_cache(rows, prompt.ids.size(1));
  const at::Tensor before = model_.extend(cache, prompt).slice(1, -1);  // [pairs, 1, d]
  models::KvCache both = model_.repeat(cache, 2, capacity);
  const at::Tensor after = model_.extend(both, continuation, /*generated=*/true);  // [2 · pairs, seq, d]

  // Token j is predicted from what stands before it.
  const at::Tensor hidden = at::cat({before.repeat_interleave(2, 0), after.slice(1, 0, -1)}, 1);
  const at::Tensor real = real_tokens(continuation).to(hidden.device());
  const at::Tensor targets = continuation.ids.to(hidden.device());
  const at::Tensor each = target_log_probabilities(model_, hidden.index({real}), targets.index({real}));  // [tokens]
  const at::Tensor placed = at::zeros(real.sizes(), each.options().dtype(at::kDouble)).masked_scatter(real, each.to(at::kDouble));
  const at::Tensor means = (placed.sum(1) / real.sum(1)).cpu();  // [2 · pairs]
  for (size_t i = 0; i < batch.size(); ++i) {
    const auto row = static_cast<int64_t>(2 * i);
    preference[batch[i]] = means[row].item<double>() - means[row + 1].item<double>();
  }
}

std::vector<std::vector<models::TokenId>> neutral_windows(const models::Tokenizer& tokenizer, std::string_view text, int64_t window,
                                                          int64_t max_tokens) {
  if (window < 1 || max_tokens < 1) {
    throw UsageError(fmt::format("a window of {} and at most {} neutral tokens; expected both to be positive", window, max_tokens));
  }
  std::vector<models::TokenId> tokens = tokenizer.encode(text, {.special_tokens = false});
  if (tokens.empty()) fail("the neutral text is empty; the side effect needs some plain prose");
  tokens.resize(std::min(tokens.size(), static_cast<size_t>(max_tokens)));
  std::vector<std::vector<models::TokenId>> windows;
  for (size_t first = 0; first < tokens.size(); first += static_cast<size_t>(window)) {
    const size_t last = std::min(tokens.size(), first + static_cast<size_t>(window));
    windows.emplace_back(tokens.begin() + static_cast<int64_t>(first), tokens.begin() + static_cast<int64_t>(last));
  }
  return windows;
}

NeutralMeter::NeutralMeter(models::LanguageModel& model, std::vector<std::vector<models::TokenId>> windows)
    : model_(model), windows_(std::move(windows)) {
  if (windows_.empty()) fail("there is no neutral text to measure the side effect with; give some plain prose");
  for (const auto& window : windows_) unsteered_.push_back(log_probabilities(window, {}));
}

uint64_t NeutralMeter::tokens() const {
  uint64_t tokens = 0;
  for (const auto& window : windows_) tokens += window.size();
  return tokens;
}

at::Tensor NeutralMeter::log_probabilities(const std::vector<models::TokenId>& window, std::span<const models::TokenId> prefix) {
  const at::NoGradGuard no_grad;
  std::vector<models::TokenId> tokens(prefix.begin(), prefix.end());
  tokens.insert(tokens.end(), window.begin(), window.end());
  const auto seq = static_cast<int64_t>(tokens.size());
  models::KvCache cache = model_.make_cache(1, seq);
  const models::Batch batch = models::make_batch({&tokens, 1}, models::Padding::right, tokens.front());
  const at::Tensor hidden = model_.extend(cache, batch, /*generated=*/true)[0];              // [seq, d]
  return model_.head(hidden.slice(0, static_cast<int64_t>(prefix.size()))).log_softmax(-1);  // [window, vocabulary]
}

NeutralEffect NeutralMeter::measure(std::span<const models::TokenId> prefix) {
  std::vector<at::Tensor> kl, reverse_kl, loss_rise;
  for (size_t i = 0; i < windows_.size(); ++i) {
    const at::Tensor steered = log_probabilities(windows_[i], prefix);  // [seq, vocabulary]
    const at::Tensor gain = steered - unsteered_[i];
    kl.push_back((steered.exp() * gain).sum(-1, false, at::kDouble));
    reverse_kl.push_back(-(unsteered_[i].exp() * gain).sum(-1, false, at::kDouble));
    const at::Tensor next = at::tensor(windows_[i], at::kLong).to(gain.device()).slice(0, 1).unsqueeze(1);  // [seq − 1, 1]
    loss_rise.push_back(-gain.slice(0, 0, -1).gather(1, next).squeeze(1).to(at::kDouble));
  }
  // Rounding can fall below 0.
  return {at::cat(kl).clamp_min(0).cpu(), at::cat(reverse_kl).clamp_min(0).cpu(), at::cat(loss_rise).cpu()};
}

EffectMeter::EffectMeter(models::LanguageModel& model, std::vector<ContinuationPair> pairs, std::string_view neutral, Options options)
    : preferences_(model, pairs, options.chat),
      neutral_(model, neutral_windows(model.tokenizer(), neutral, options.window, options.max_neutral_tokens)),
      baseline_(preferences_.measure()) {}

double EffectMeter::baseline_preference() const {
  return mean(baseline_);
}

Effect EffectMeter::measure() {
  Effect effect;
  std::vector<double> shifts = preference();
  for (size_t i = 0; i < shifts.size(); ++i) shifts[i] -= baseline_[i];
  effect.shift = mean(shifts);
  effect.positive_share = static_cast<double>(std::count_if(shifts.begin(), shifts.end(), [](double shift) { return shift > 0; })) /
                          static_cast<double>(shifts.size());

  const at::Tensor kl = neutral_.measure().kl;  // [tokens]
  effect.kl_mean = kl.mean().item<double>();
  effect.kl_p95 = kl.quantile(0.95).item<double>();
  return effect;
}

}  // namespace vyx::steering
