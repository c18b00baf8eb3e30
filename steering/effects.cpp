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

EffectMeter::EffectMeter(models::LanguageModel& model, std::vector<ContinuationPair> pairs, std::string_view neutral, Options options)
    : model_(model) {
  if (pairs.empty()) fail("there are no pairs of continuations to measure the shift with; give at least one");
  if (options.window < 1 || options.max_neutral_tokens < 1) {
    throw UsageError(fmt::format("a window of {} and at most {} neutral tokens; expected both to be positive", options.window,
                                 options.max_neutral_tokens));
  }
  const models::Tokenizer& tokenizer = model.tokenizer();
  for (const ContinuationPair& pair : pairs) {
    pairs_.push_back({model.encode_prompt(pair.prompt, options.chat), tokenizer.encode(pair.positive, {.special_tokens = false}),
                      tokenizer.encode(pair.negative, {.special_tokens = false})});
  }

  std::vector<int64_t> lengths;
  for (const EncodedPair& pair : pairs_) {
    lengths.push_back(static_cast<int64_t>(pair.prompt.size() + std::max(pair.positive.size(), pair.negative.size())));
  }
  batches_ = models::batches_by_length(lengths, kBatchTokens / 2);  // two rows a pair

  std::vector<models::TokenId> tokens = tokenizer.encode(neutral, {.special_tokens = false});
  if (tokens.empty()) fail("the neutral text is empty; the side effect needs some plain prose");
  tokens.resize(std::min(tokens.size(), static_cast<size_t>(options.max_neutral_tokens)));
  for (size_t first = 0; first < tokens.size(); first += static_cast<size_t>(options.window)) {
    const size_t last = std::min(tokens.size(), first + static_cast<size_t>(options.window));
    neutral_.emplace_back(tokens.begin() + static_cast<int64_t>(first), tokens.begin() + static_cast<int64_t>(last));
  }

  baseline_ = preference();
  for (const auto& window : neutral_) unsteered_neutral_.push_back(neutral_log_probabilities(window));
}

double EffectMeter::baseline_preference() const {
  return mean(baseline_);
}

std::vector<double> EffectMeter::preference() {
  std::vector<double> result(pairs_.size());
  for (const auto& batch : batches_) measure_preference(batch, result);
  return result;
}

void EffectMeter::measure_preference(std::span<const size_t> batch, std::vector<double>& preference) {
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

at::Tensor EffectMeter::neutral_log_probabilities(const std::vector<models::TokenId>& window) {
  const at::NoGradGuard no_grad;
  models::KvCache cache = model_.make_cache(1, static_cast<int64_t>(window.size()));
  const models::Batch batch = models::make_batch({&window, 1}, models::Padding::right, window.front());
  return model_.head(model_.extend(cache, batch, /*generated=*/true)[0]).log_softmax(-1);
}

Effect EffectMeter::measure() {
  Effect effect;
  std::vector<double> shifts = preference();
  for (size_t i = 0; i < shifts.size(); ++i) shifts[i] -= baseline_[i];
  effect.shift = mean(shifts);
  effect.positive_share = static_cast<double>(std::count_if(shifts.begin(), shifts.end(), [](double shift) { return shift > 0; })) /
                          static_cast<double>(shifts.size());

  std::vector<at::Tensor> divergences;
  for (size_t i = 0; i < neutral_.size(); ++i) {
    const at::Tensor steered = neutral_log_probabilities(neutral_[i]);  // [seq, vocabulary]
    divergences.push_back((steered.exp() * (steered - unsteered_neutral_[i])).sum(-1, false, at::kDouble));
  }
  const at::Tensor kl = at::cat(divergences).clamp_min(0);  // [tokens]; rounding can fall below 0
  effect.kl_mean = kl.mean().item<double>();
  effect.kl_p95 = kl.quantile(0.95).item<double>();
  return effect;
}

}  // namespace vyx::steering
