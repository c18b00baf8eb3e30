#include "apps/compare/language_subject.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <algorithm>
#include <set>

#include "apps/compare/continuation_contrast.h"
#include "core/base/error.h"
#include "core/edits/attached_edit.h"
#include "core/io/digest.h"
#include "models/activations/gradients.h"
#include "models/activations/last_token_activations.h"
#include "models/activations/row_activations.h"
#include "models/generation/generate.h"
#include "models/language_model/encode.h"
#include "steering/directions/contrast_reading.h"

namespace vyx::compare {
namespace {

constexpr int64_t kFewestWindows =
    16;                           // of neutral text at least: 8 a half, so that they can be redrawn
constexpr size_t kFewGroups = 6;  // 2/2^6 < .05

/// Holds an edit in the model while `run` runs.
template <class Run>
auto edited(models::LanguageModel& model, const Site& site, const Edit* edit, Run&& run) {
  if (edit == nullptr) return run();
  AttachedEdit attached = attach(model.module(), site, *edit);
  auto result = run();
  attached.require_fired();
  return result;
}

/// Activations of every token of `windows` at `site`, each behind the model's begin token, without
/// that and without attention sinks [rows, d] float32.
at::Tensor activations_of(models::LanguageModel& model, const Site& site,
                          const std::vector<std::vector<models::TokenId>>& windows) {
  std::vector<at::Tensor> rows;
  for (const auto& window : windows) {
    const std::vector<models::TokenId> row = models::with_begin(model, window);
    const at::Tensor x = models::batch_activations(
        model, {.ids = at::tensor(row, at::kLong).unsqueeze(0), .mask = {}}, site)[0];
    rows.push_back(x.slice(0, static_cast<int64_t>(row.size() - window.size())));
  }
  const at::Tensor all = at::cat(rows);             // [tokens, d]
  const at::Tensor norms = models::row_norms(all);  // [tokens]
  const double limit = models::sink_limit(norms.median().item<double>());
  return all.index({models::are_within(norms, limit)}).contiguous();
}

}  // namespace

void validate(const LanguageOptions& options) {
  if (options.neutral_tokens < 2 * kFewestWindows || options.sample_neutral_tokens < 2 ||
      options.background_tokens < 1 || options.window < 2)
    throw UsageError(fmt::format(
        "{} neutral tokens, {} of them a sample, {} of background, windows of {}; expected at "
        "least {}, 2, 1 and 2",
        options.neutral_tokens, options.sample_neutral_tokens, options.background_tokens,
        options.window, 2 * kFewestWindows));
  if (options.sample_prompts < 0 || options.sample_tokens < 0)
    throw UsageError(fmt::format("{} sample prompts of {} tokens; expected 0 or more",
                                 options.sample_prompts, options.sample_tokens));
}

LanguageSubject::LanguageSubject(models::LanguageModel& model, LanguageInputs inputs,
                                 const LanguageOptions& options)
    : model_(model),
      inputs_(std::move(inputs)),
      options_(options),
      chat_(!model.config().tokens.chat_format.empty()),
      first_block_(model.block_of(inputs_.site)) {
  validate(options);
  provenance_ = {{"model",
                  {{"name", model.config().provenance.name},
                   {"sha256", model.config().provenance.sha256},
                   {"dtype", model.config().dtype}}},
                 {"chat", chat_},
                 {"seed", options.seed}};
  read_contrast(options);
  read_heldout(options);
  read_neutral(options);
  read_ood();
  read_choices();
  for (const NamedPairs& other : inputs_.others) {
    others_.push_back(
        std::make_unique<steering::PreferenceMeter>(model_, other.pairs, chat_, first_block_));
    std::vector<size_t> all(other.pairs.size());
    for (size_t i = 0; i < all.size(); ++i) all[i] = i;
    provenance_["others"].push_back(
        {{"source", other.name}, {"pairs", all.size()}, {"sha256", digest_of(other.pairs, all)}});
  }
}

void LanguageSubject::read_contrast(const LanguageOptions& options) {
  const steering::ContrastSet& set = inputs_.contrast;
  const Splits splits = split_by_group(set.groups, group_texts(set), {}, options.seed, set.source);
  Json& json = provenance_["contrast"] = {{"source", set.source},
                                          {"sha256", set.sha256},
                                          {"left_out_as_duplicates", splits.duplicates.size()}};
  size_t sinks = 0;  // pairs
  for (const auto& [split, name] : {std::pair{Split::extraction, "extraction"},
                                    {Split::selection, "selection"},
                                    {Split::test, "test"}}) {
    const std::vector<size_t>& items = splits.of(split);
    json[name] = {{"pairs", items.size()}, {"sha256", digest_of(set.pairs, items)}};
    std::vector<std::vector<models::TokenId>> prompts;
    for (const size_t i : items) prompts.push_back(model_.encode_prompt(set.pairs[i].positive));
    for (const size_t i : items) prompts.push_back(model_.encode_prompt(set.pairs[i].negative));
    const at::Tensor x =
        models::last_token_activations(model_, prompts, std::span(&inputs_.site, 1))[0]
            .cpu();  // [2 · pairs, d]
    const auto pairs = static_cast<int64_t>(items.size());
    steering::ContrastActivations all{x.slice(0, 0, pairs), x.slice(0, pairs)};
    const at::Tensor keep = steering::without_sinks(std::span(&all, 1)).contiguous();  // [pairs]
    for (size_t i = 0; i < items.size(); ++i)
      if (keep.const_data_ptr<bool>()[i])
        contrast_groups_[static_cast<size_t>(split)].push_back(set.groups[items[i]]);
    sinks += items.size() - contrast_groups_[static_cast<size_t>(split)].size();
    if (contrast_groups_[static_cast<size_t>(split)].empty())
      fail("{}: the {} split has attention sinks on a side of each of its {} pairs, expected text",
           set.source, name, items.size());
    contrast_[static_cast<size_t>(split)] = steering::rows_of(all, keep);
  }
  json["left_out_as_sinks"] = sinks;
  if (sinks > 0)
    notes_.push_back(fmt::format(
        "{}: {} pairs were left out, since the token that is read is an attention sink on a side.",
        set.source, sinks));
}

void LanguageSubject::read_heldout(const LanguageOptions& options) {
  const std::vector<steering::ContinuationPair>& pairs = inputs_.heldout.pairs;
  const auto [groups, texts] = group_by_prompt(pairs);
  const Splits splits = split_by_group(groups, texts, {.extraction = 0, .selection = 0.5},
                                       options.seed, inputs_.heldout.name);
  Json& json = provenance_["heldout"] = {{"source", inputs_.heldout.name},
                                         {"left_out_as_duplicates", splits.duplicates.size()}};
  for (const auto& [split, name] :
       {std::pair{Split::selection, "selection"}, {Split::test, "test"}}) {
    Half& half = halves_[split == Split::test];
    const std::vector<size_t>& items = splits.of(split);
    json[name] = {{"pairs", items.size()}, {"sha256", digest_of(pairs, items)}};
    for (const size_t i : items) {
      half.pairs.push_back(pairs[i]);
      half.clusters.push_back(groups[i]);
    }
    half.preferences =
        std::make_unique<steering::PreferenceMeter>(model_, half.pairs, chat_, first_block_);
    if (const std::set<size_t> own(half.clusters.begin(), half.clusters.end());
        own.size() < kFewGroups)
      notes_.push_back(fmt::format(
          "The {} has {} pairs of {} prompts: an effect on fewer than {} prompts cannot "
          "reach p = .05 by flips of signs.",
          name, half.pairs.size(), own.size(), kFewGroups));
  }
}

void LanguageSubject::read_ood() {
  const auto& [name, pairs] = inputs_.ood;
  if (pairs.empty()) return;
  const auto [groups, texts] = group_by_prompt(pairs);
  const std::vector<size_t> kept = differing(texts, group_by_prompt(inputs_.heldout.pairs).texts);
  if (kept.empty())
    fail(
        "{}: found {} pairs that all nearly repeat those of {}, expected another template; write "
        "them in another form",
        name, pairs.size(), inputs_.heldout.name);
  std::vector<size_t> items;
  std::vector<steering::ContinuationPair> measured;
  for (size_t i = 0; i < pairs.size(); ++i) {
    if (!std::binary_search(kept.begin(), kept.end(), groups[i])) continue;
    items.push_back(i);
    measured.push_back(pairs[i]);
    ood_clusters_.push_back(groups[i]);
  }
  const size_t duplicates = pairs.size() - items.size();
  if (duplicates > 0)
    notes_.push_back(fmt::format(
        "{}: {} of {} pairs were left out, since they nearly repeat held-out pairs or each other.",
        name, duplicates, pairs.size()));
  provenance_["ood"] = {{"source", name},
                        {"pairs", items.size()},
                        {"sha256", digest_of(pairs, items)},
                        {"left_out_as_duplicates", duplicates}};
  ood_ = std::make_unique<steering::PreferenceMeter>(model_, measured, chat_, first_block_);
}

void LanguageSubject::read_choices() {
  const auto& [name, items] = inputs_.choices;
  if (items.empty()) return;
  choices_ = std::make_unique<steering::ChoiceMeter>(model_, items, chat_, first_block_);
  provenance_["choices"] = {
      {"source", name}, {"items", items.size()}, {"sha256", digest_of(items)}};
}

void LanguageSubject::read_neutral(const LanguageOptions& options) {
  const auto tokens = static_cast<int64_t>(models::encode_text(model_, inputs_.neutral).size());
  if (tokens < 2 * kFewestWindows)
    fail("the neutral text has {} tokens, expected some thousand; give more plain prose", tokens);
  const int64_t used = std::min(tokens, options.neutral_tokens);
  if (used < options.neutral_tokens)
    notes_.push_back(fmt::format(
        "The neutral text has {} tokens, and {} were asked for: doses are the less certain.",
        tokens, options.neutral_tokens));
  const int64_t window = std::min(options.window, used / kFewestWindows);
  const auto windows =
      steering::neutral_windows(model_, inputs_.neutral, window, used + options.background_tokens);
  std::vector<std::vector<models::TokenId>> halves[2], background;
  int64_t placed = 0;
  for (size_t i = 0; i < windows.size(); ++i) {
    const bool measured = placed < used;
    placed += static_cast<int64_t>(windows[i].size());
    if (measured) halves[i % 2].push_back(windows[i]);
    if (!measured || i % 2 == 0) background.push_back(windows[i]);
  }
  std::vector<std::vector<models::TokenId>> sample;
  for (size_t i = 0; i < halves[0].size(); ++i)
    if (static_cast<int64_t>(i) * window < options.sample_neutral_tokens)
      sample.push_back(halves[0][i]);
  neutral_sample_ =
      std::make_unique<steering::NeutralMeter>(model_, std::move(sample), first_block_);
  for (size_t i = 0; i < 2; ++i)
    halves_[i].neutral =
        std::make_unique<steering::NeutralMeter>(model_, std::move(halves[i]), first_block_);
  background_ = activations_of(model_, inputs_.site, background);
  provenance_["neutral"] = {{"sha256", sha256(inputs_.neutral)},
                            {"window", window},
                            {"selection_tokens", halves_[0].neutral->tokens()},
                            {"test_tokens", halves_[1].neutral->tokens()},
                            {"background_rows", background_.size(0)}};
}

std::vector<std::vector<double>> LanguageSubject::preference(Split split, Edits edits) {
  return half(split).preferences->measure(inputs_.site, edits);
}

at::Tensor LanguageSubject::preference_slopes(Split split) {
  const std::vector<steering::ContinuationPair>& pairs = half(split).pairs;
  at::Tensor slopes =
      at::zeros({static_cast<int64_t>(pairs.size()), width()}, at::kDouble);  // [items, d]
  for (const bool positive : {true, false}) {
    std::vector<models::Continuation> rows;
    for (const steering::ContinuationPair& pair : pairs) {
      const steering::EncodedPair encoded = steering::encode_pair(model_, pair, chat_);
      rows.push_back({encoded.prompt, positive ? encoded.positive : encoded.negative});
    }
    models::for_each_gradient(model_, rows, inputs_.site, [&](const models::SiteGradients& batch) {
      std::vector<int64_t> items;
      for (const models::TokenPlace& place : batch.places)
        items.push_back(static_cast<int64_t>(place.row));
      slopes.index_add_(0, at::tensor(items, at::kLong), batch.gradient.to(at::kDouble),
                        positive ? 1 : -1);
    });
  }
  return slopes;
}

std::vector<steering::NeutralEffect> LanguageSubject::neutral(Split split, Edits edits) {
  return half(split).neutral->measure(inputs_.site, edits);
}

std::vector<steering::NeutralEffect> LanguageSubject::neutral_sample(Edits edits) {
  return neutral_sample_->measure(inputs_.site, edits);
}

std::vector<size_t> LanguageSubject::neutral_windows(Split split) const {
  std::vector<size_t> result;
  const auto& windows = half(split).neutral->windows();
  for (size_t i = 0; i < windows.size(); ++i) result.insert(result.end(), windows[i].size(), i);
  return result;
}

std::vector<std::string> LanguageSubject::others() const {
  std::vector<std::string> names;
  for (const NamedPairs& other : inputs_.others) names.push_back(other.name);
  return names;
}

std::vector<std::vector<double>> LanguageSubject::other_preference(size_t other, Edits edits) {
  return others_[other]->measure(inputs_.site, edits);
}

ContrastActivations LanguageSubject::other_contrast(size_t other) {
  return continuation_contrast(model_, inputs_.others[other].pairs, inputs_.site, chat_);
}

std::vector<std::vector<double>> LanguageSubject::ood_preference(Edits edits) {
  return ood_->measure(inputs_.site, edits);
}

std::vector<std::vector<double>> LanguageSubject::choices_right(Edits edits) {
  return choices_->right(inputs_.site, edits);
}

std::optional<Instructed> LanguageSubject::instructed() {
  if (inputs_.instruction.empty()) return std::nullopt;
  const std::string before = inputs_.instruction + "\n\n";
  std::vector<steering::ContinuationPair> pairs = half(Split::test).pairs;
  for (steering::ContinuationPair& pair : pairs) pair.prompt = before + pair.prompt;
  return Instructed{.instruction = inputs_.instruction,
                    .preference = steering::PreferenceMeter(model_, pairs, chat_).measure(),
                    .neutral = half(Split::test)
                                   .neutral->measure(model_.tokenizer().encode(
                                       before, {.special_tokens = false}))};
}

std::vector<Sample> LanguageSubject::samples(const Edit* edit) {
  if (options_.sample_tokens == 0 || options_.sample_prompts == 0) return {};
  std::vector<Sample> samples;
  std::vector<std::vector<models::TokenId>> prompts;
  for (const steering::ContinuationPair& pair : half(Split::test).pairs) {
    if (static_cast<int64_t>(prompts.size()) == options_.sample_prompts) break;
    samples.push_back({.prompt = pair.prompt});
    prompts.push_back(model_.encode_prompt(pair.prompt, chat_));
  }
  const models::Generations texts = edited(model_, inputs_.site, edit, [&] {
    return models::generate(model_, prompts, {.max_tokens = options_.sample_tokens});
  });
  for (size_t i = 0; i < samples.size(); ++i) {
    samples[i].text = texts.rows[i].text;
    samples[i].tokens = texts.rows[i].tokens;
  }
  return samples;
}

}  // namespace vyx::compare
