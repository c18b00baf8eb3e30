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
#include "models/language_model/encode.h"

namespace vyx::steering {
namespace {

constexpr int64_t kCachedTokens = 2;  // whose log-probabilities stay in a processor's cache

double mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

/// Of all windows, in order.
NeutralEffect joined(const std::vector<NeutralEffect>& effects) {
  std::vector<at::Tensor> kl, reverse_kl, loss_rise;
  for (const NeutralEffect& effect : effects) {
    kl.push_back(effect.kl);
    reverse_kl.push_back(effect.reverse_kl);
    loss_rise.push_back(effect.loss_rise);
  }
  return {at::cat(kl), at::cat(reverse_kl), at::cat(loss_rise)};
}

/// KL, reverse KL and rise of the loss of `logits` [tokens, vocabulary] from the log-probabilities
/// `unsteered` [tokens, vocabulary], where `next` [tokens] follows: into `sums` [3, tokens].
void diverge(const at::Tensor& logits, const at::Tensor& unsteered, const at::Tensor& next,
             const at::Tensor& sums) {
  const bool cpu = logits.is_cpu();
  at::parallel_for(
      0, logits.size(0), cpu ? kCachedTokens : logits.size(0), [&](int64_t first, int64_t last) {
        const int64_t step = cpu ? kCachedTokens : last - first;
        for (; first < last; first += step) {
          const int64_t end = std::min(first + step, last);
          const at::Tensor before = unsteered.slice(0, first, end),
                           after = logits.slice(0, first, end).log_softmax(-1),
                           gain = after - before;           // each [tokens, vocabulary]
          const at::Tensor to = sums.slice(1, first, end);  // [3, tokens]
          to[0].copy_((after.exp() * gain).sum(-1, false, at::kDouble));
          to[1].copy_((before.exp() * gain).sum(-1, false, at::kDouble).neg());
          to[2].copy_(gain.gather(1, next.slice(0, first, end).unsqueeze(1)).squeeze(1).neg());
        }
      });
}

}  // namespace

EncodedPair encode_pair(const models::LanguageModel& model, const ContinuationPair& pair,
                        bool chat) {
  return {.prompt = model.encode_prompt(pair.prompt, chat),
          .positive = models::encode_text(model, pair.positive),
          .negative = models::encode_text(model, pair.negative)};
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
    if (positive.size() == 1 && negative.size() == 1) ++single_token_pairs_;
    model.require_context(lengths.back(), 0,
                          pair.place.empty() ? fmt::format("pair {}", lengths.size()) : pair.place);
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

void PreferenceMeter::measure(PairBatch& batch, std::span<std::vector<double>> results) {
  const auto copies = static_cast<int64_t>(results.size());
  const at::Tensor means = batch.continuations.log_likelihoods(model_, copies).view({copies, -1}) /
                           batch.lengths;  // [copies, 2 · pairs]
  const auto* next = means.const_data_ptr<double>();
  for (std::vector<double>& result : results)
    for (const size_t pair : batch.pairs) {
      result[pair] = next[0] - next[1];
      next += 2;
    }
}

std::vector<double> PreferenceMeter::measure() {
  std::vector<double> result(pairs());
  for (PairBatch& batch : batches_) measure(batch, std::span(&result, 1));
  return result;
}

std::vector<std::vector<double>> PreferenceMeter::measure(const Site& site,
                                                          std::span<const Edit* const> edits) {
  std::vector<std::vector<double>> results(edits.size(), std::vector<double>(pairs()));
  for (PairBatch& batch : batches_) {
    batch.continuations.prepare(model_);
    for_each_run(model_, site, edits, batch.continuations.tokens(),
                 [&](size_t first, int64_t count) {
                   measure(batch, std::span(results).subspan(first, static_cast<size_t>(count)));
                 });
  }
  return results;
}

std::vector<std::vector<models::TokenId>> neutral_windows(const models::LanguageModel& model,
                                                          std::string_view text, int64_t window,
                                                          int64_t max_tokens) {
  if (window < 1 || max_tokens < 1) {
    throw UsageError(
        fmt::format("a window of {} and at most {} neutral tokens; expected both to be positive",
                    window, max_tokens));
  }
  std::vector<models::TokenId> tokens = models::encode_text(model, text);
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
                           std::vector<std::vector<models::TokenId>> windows, int64_t first_block,
                           int64_t kept_bytes)
    : model_(model), windows_(std::move(windows)) {
  if (const models::TokenId begin = models::begin_token(model); begin >= 0) lead_.push_back(begin);
  if (windows_.empty())
    fail("there is no neutral text to measure the side effect with; give some plain prose");
  const bool kept = static_cast<int64_t>(tokens()) * model.config().spec.vocabulary *
                        static_cast<int64_t>(sizeof(float)) <=
                    kept_bytes;
  std::map<size_t, std::vector<size_t>> of_length;
  for (size_t i = 0; i < windows_.size(); ++i) of_length[windows_[i].size()].push_back(i);
  for (const auto& [length, members] : of_length) {
    if (length == 0)
      fail("a window of the neutral text is empty; expected at least one token in each");
    const int64_t context = model.config().context_length;
    if (static_cast<int64_t>(lead_.size() + length) > context)
      fail(
          "a window of the neutral text has {} tokens{}, expected at most the model's context of "
          "{}",
          length, lead_.empty() ? "" : " behind the begin token", context);
    const size_t rows = std::max<size_t>(1, kBatchTokens / length);
    for (size_t first = 0; first < members.size(); first += rows) {
      WindowBatch& batch = batches_.emplace_back();
      batch.input.block = batch.lead_input.block = first_block;
      std::vector<std::vector<models::TokenId>> tokens;
      for (size_t i = first; i < std::min(members.size(), first + rows); ++i) {
        batch.windows.push_back(members[i]);
        tokens.push_back(windows_[members[i]]);
      }
      batch.ids = models::make_batch(tokens, models::Padding::right, model.pad_token()).ids;
      batch.hidden = hidden(batch, 1, {})[0];
      std::vector<at::Tensor> parts;
      for_each_logits(model_, batch.hidden, [&](int64_t, const at::Tensor& logits) {
        require_finite(logits, "logits of the unsteered model");
        if (kept) parts.push_back(logits.log_softmax(-1));
      });
      if (kept) batch.log_probabilities = at::cat(parts);
    }
  }
}

uint64_t NeutralMeter::tokens() const {
  uint64_t tokens = 0;
  for (const auto& window : windows_) tokens += window.size();
  return tokens;
}

NeutralMeter::WindowBatch NeutralMeter::part(const WindowBatch& batch, int64_t first,
                                             int64_t count) {
  const int64_t seq = batch.ids.size(1);
  const auto of_tokens = [&](const at::Tensor& tensor) {
    return tensor.defined() ? tensor.narrow(0, first * seq, count * seq) : tensor;
  };
  WindowBatch part = batch;
  part.windows = {batch.windows.begin() + first, batch.windows.begin() + first + count};
  part.ids = batch.ids.narrow(0, first, count);
  if (batch.input.hidden.defined()) part.input.hidden = batch.input.hidden.narrow(0, first, count);
  part.hidden = of_tokens(batch.hidden);
  part.log_probabilities = of_tokens(batch.log_probabilities);
  return part;
}

at::Tensor NeutralMeter::hidden(WindowBatch& batch, int64_t copies,
                                std::span<const models::TokenId> prefix) {
  const at::NoGradGuard no_grad;
  const int64_t rows = batch.ids.size(0), seq = batch.ids.size(1);
  std::vector<models::TokenId> lead = lead_;
  lead.insert(lead.end(), prefix.begin(), prefix.end());
  const auto before = static_cast<int64_t>(lead.size());
  models::KvCache cache = model_.make_cache(before > 0 ? copies : copies * rows, before + seq);
  models::BlockInput of_prefix, behind_prefix;
  if (before > 0) {
    const models::Batch first{.ids = at::tensor(lead, at::kLong).unsqueeze(0), .mask = {}};
    extend_copies(model_, prefix.empty() ? batch.lead_input : of_prefix, cache, first, copies);
    cache = models::repeat_rows(cache, rows, before + seq);
  }
  return extend_copies(model_, prefix.empty() ? batch.input : behind_prefix, cache,
                       {.ids = batch.ids, .mask = {}}, copies, /*generated=*/true)
      .reshape({copies, rows * seq, -1});
}

NeutralEffect NeutralMeter::measure(std::span<const models::TokenId> prefix) {
  std::vector<NeutralEffect> effects(windows_.size());
  for (WindowBatch& batch : batches_)
    compare(batch, hidden(batch, 1, prefix), std::span(&effects, 1));
  return joined(effects);
}

std::vector<NeutralEffect> NeutralMeter::measure(const Site& site,
                                                 std::span<const Edit* const> edits) {
  if (edits.empty()) return {};
  std::vector<std::vector<NeutralEffect>> effects(edits.size(),
                                                  std::vector<NeutralEffect>(windows_.size()));
  for (WindowBatch& batch : batches_) {
    // As many windows at a time as leave room for all edits.
    const int64_t rows = batch.ids.size(0), seq = batch.ids.size(1);
    const int64_t at_once =
        std::clamp<int64_t>(kBatchTokens / (seq * static_cast<int64_t>(edits.size())), 1, rows);
    for (int64_t first = 0; first < rows; first += at_once) {
      WindowBatch windows = part(batch, first, std::min(at_once, rows - first));
      for_each_run(model_, site, edits, windows.ids.numel(), [&](size_t edit, int64_t count) {
        compare(windows, hidden(windows, count, {}),
                std::span(effects).subspan(edit, static_cast<size_t>(count)));
      });
    }
  }
  std::vector<NeutralEffect> results;
  for (const std::vector<NeutralEffect>& each : effects) results.push_back(joined(each));
  return results;
}

void NeutralMeter::compare(const WindowBatch& batch, const at::Tensor& steered,
                           std::span<std::vector<NeutralEffect>> effects) {
  const at::NoGradGuard no_grad;
  const int64_t seq = batch.ids.size(1), tokens = steered.size(1);
  const auto copies = static_cast<int64_t>(effects.size());
  const at::Tensor next = batch.ids.roll(-1, 1).flatten().to(
      model_.device());  // what follows each token, but for the last of a window
  const at::Tensor sums =
      at::empty({copies, 3, tokens}, next.options().dtype(at::kDouble));  // KL, reverse, loss rise
  const auto against = [&](int64_t first, const at::Tensor& unsteered) {
    const int64_t last = first + unsteered.size(0);
    for (int64_t copy = 0; copy < copies; ++copy)
      diverge(model_.head(steered[copy].slice(0, first, last)), unsteered,
              next.slice(0, first, last), sums[copy].slice(1, first, last));
  };
  if (batch.log_probabilities.defined()) {
    for (int64_t first = 0; first < tokens; first += kHeadTokens)
      against(first, batch.log_probabilities.slice(0, first, first + kHeadTokens));
  } else {
    for_each_logits(model_, batch.hidden, [&](int64_t first, const at::Tensor& logits) {
      against(first, logits.log_softmax(-1));
    });
  }
  require_finite(sums, "KL of the edited model on the neutral text",
                 "; the model as it is gives them: edit with less");
  // Rounding can fall below 0.
  const at::Tensor kl =
      sums.slice(1, 0, 2).clamp_min(0).cpu().unflatten(2, {-1, seq});  // [copies, 2, rows, seq]
  const at::Tensor rise =
      sums.select(1, 2).cpu().unflatten(1, {-1, seq}).slice(2, 0, -1);  // [copies, rows, seq − 1]
  for (int64_t copy = 0; copy < copies; ++copy) {
    for (size_t i = 0; i < batch.windows.size(); ++i) {
      const auto row = static_cast<int64_t>(i);
      effects[static_cast<size_t>(copy)][batch.windows[i]] = {
          .kl = kl[copy][0][row], .reverse_kl = kl[copy][1][row], .loss_rise = rise[copy][row]};
    }
  }
}

EffectMeter::EffectMeter(models::LanguageModel& model, std::vector<ContinuationPair> pairs,
                         std::string_view neutral, Options options)
    : preferences_(model, pairs, options.chat, options.first_block),
      neutral_(model, neutral_windows(model, neutral, options.window, options.max_neutral_tokens),
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
