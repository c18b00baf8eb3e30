#include "apps/latents/latent_study.h"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <set>
#include <tuple>
#include <utility>

#include "core/edit.h"
#include "core/error.h"
#include "core/progress.h"
#include "models/activations.h"
#include "models/gradients.h"
#include "models/logit_lens.h"
#include "models/row_activations.h"
#include "models/tokenizer/utf8_stream.h"
#include "sae/latents/attribution.h"
#include "sae/latents/contexts.h"
#include "sae/latents/latent_rows.h"
#include "sae/latents/output_score.h"
#include "sae/latents/ranking.h"
#include "steering/effects.h"

namespace vyx::apps {
namespace {

using Rows = std::vector<std::vector<models::TokenId>>;

constexpr std::array<std::pair<Score, std::string_view>, 7> kScores{{{Score::auroc, "auroc"},
                                                                     {Score::difference, "difference"},
                                                                     {Score::attribution, "attribution"},
                                                                     {Score::cosine, "cosine"},
                                                                     {Score::predicted, "predicted"},
                                                                     {Score::output, "output"},
                                                                     {Score::shift, "shift"}}};
constexpr int64_t kPromoted = 10;  // tokens of the logit lens that are shown, of either end

uint64_t tokens_in(const Rows& rows) {
  uint64_t tokens = 0;
  for (const auto& row : rows) tokens += row.size();
  return tokens;
}

at::Tensor unmeasured(int64_t latents) {
  return at::full({latents}, std::numeric_limits<double>::quiet_NaN(), at::kDouble);
}

/// One study, measurement by measurement.
class Study {
 public:
  Study(models::LanguageModel& model, const sae::Autoencoder& sae, const Site& site, const LatentStudyInput& input,
        const LatentStudyOptions& options)
      : model_(model), sae_(sae), site_(site), input_(input), options_(options) {
    for (const auto& pair : input.contrast.pairs) prompts_.push_back(model.encode_prompt(pair.positive));
    for (const auto& pair : input.contrast.pairs) prompts_.push_back(model.encode_prompt(pair.negative));
    result_.site = site.name();
    result_.median_norm = models::median_norm(model, prompts_, site);
    max_norm_ = models::kSinkThreshold * result_.median_norm;
  }

  LatentStudy run() {
    read();
    const at::Tensor directions = sae::decoder_directions(sae_);  // [latents, d]
    if (!input_.heldout.empty()) follow_gradients(directions);
    if (input_.vector.defined()) {
      const at::Tensor vector = input_.vector.to(at::kCPU, at::kFloat);  // [d]
      result_.scores[Score::cosine] = at::mv(directions, vector / vector.norm()).to(at::kDouble);
    }
    choose_measured();
    measure_output();
    if (!input_.heldout.empty() && !input_.neutral.empty()) measure_shift(directions);
    place();
    show();
    return std::move(result_);
  }

 private:
  at::Tensor& score(Score which) { return result_.scores.at(which); }
  std::vector<int64_t> order(Score which) const {
    const bool is_auroc = which == Score::auroc;  // many latents may tell the sides apart without fail
    return sae::descending(result_.scores.at(which), is_auroc ? result_.scores.at(Score::difference) : at::Tensor());
  }

  void read() {
    sae::LatentRows positive(sae_.config.latents), negative(sae_.config.latents);
    Progress progress("Reading", tokens_in(prompts_), "tokens", options_.progress);
    const auto on_tokens = [&](uint64_t tokens) { progress.advance(tokens); };
    if (options_.all_tokens) {
      read_all_tokens(positive, negative, on_tokens);
    } else {
      read_last_tokens(positive, negative, on_tokens);
    }
    for (const auto& [side, name] : {std::pair{&positive, "positive"}, std::pair{&negative, "negative"}}) {
      if (side->rows() == 0)
        fail("{}: found only special tokens and attention sinks on its {} side, expected text; {}", input_.contrast.source, name,
             options_.all_tokens ? "give other prompts" : "use --tokens all");
    }
    result_.prompts = static_cast<uint64_t>(positive.rows() + negative.rows());
    const sae::Separation separation = sae::separation(positive, negative);
    result_.scores[Score::auroc] = separation.auroc.to(at::kDouble);
    result_.scores[Score::difference] = separation.difference.to(at::kDouble);
  }

  void read_last_tokens(sae::LatentRows& positive, sae::LatentRows& negative, const std::function<void(uint64_t)>& on_tokens) {
    const at::Tensor x =
        models::last_token_activations(model_, prompts_, std::span(&site_, 1), {.on_tokens = on_tokens})[0].cpu();  // [prompts, d]
    const at::Tensor norms = x.norm(2, {-1}).contiguous();                                                          // [prompts]
    std::vector<int64_t> kept[2];
    for (size_t i = 0; i < prompts_.size(); ++i) {
      const models::TokenId token = prompts_[i].back();
      if (models::is_regular(model_.tokenizer(), token, norms.const_data_ptr<float>()[i], max_norm_)) {
        kept[is_positive(i) ? 0 : 1].push_back(static_cast<int64_t>(i));
      } else {
        (model_.tokenizer().is_special(token) ? result_.special : result_.sinks) += 1;
      }
    }
    for (const auto& [side, rows] : {std::pair{&positive, &kept[0]}, std::pair{&negative, &kept[1]}})
      for (const at::Tensor& part : sae::encodable_parts(sae_, x.index_select(0, at::tensor(*rows, at::kLong))))
        side->add(sae::encode(sae_, part));
  }

  /// A prompt's latents are their means over its tokens.
  void read_all_tokens(sae::LatentRows& positive, sae::LatentRows& negative, const std::function<void(uint64_t)>& on_tokens) {
    const auto visit = [&](const models::TokenActivations& batch) {
      std::vector<int64_t> row_of;  // of each token, among the batch's rows
      std::vector<size_t> rows;
      for (const auto& [row, position] : batch.places) {
        if (rows.empty() || rows.back() != row) rows.push_back(row);
        row_of.push_back(static_cast<int64_t>(rows.size()) - 1);
      }
      if (rows.empty()) return;
      const at::Tensor index = at::tensor(row_of, at::kLong);
      at::Tensor sums = at::zeros({static_cast<int64_t>(rows.size()), sae_.config.latents}, at::kFloat);
      int64_t first = 0;
      for (const at::Tensor& part : sae::encodable_parts(sae_, batch.x)) {
        sums.index_add_(0, index.narrow(0, first, part.size(0)), sae::encode(sae_, part));
        first += part.size(0);
      }
      const at::Tensor means = sums / at::bincount(index).unsqueeze(1);  // [rows, latents]
      for (size_t r = 0; r < rows.size(); ++r)
        (is_positive(rows[r]) ? positive : negative).add(means.narrow(0, static_cast<int64_t>(r), 1));
    };
    const auto left = models::for_each_batch(model_, prompts_, site_, visit, {.max_norm = max_norm_, .on_tokens = on_tokens});
    result_.special = left.special;
    result_.sinks = left.sinks;
  }

  bool is_positive(size_t prompt) const { return prompt < input_.contrast.pairs.size(); }

  /// The metric is the mean preference of the held-out pairs: of a pair, the mean log-probability a token of its positive continuation
  /// minus that of its negative one, as in steering::EffectMeter.
  void follow_gradients(const at::Tensor& directions) {
    const bool chat = !model_.config().chat_format.empty();
    const size_t pairs = input_.heldout.size();
    std::vector<models::Continuation> rows;
    for (const auto& pair : input_.heldout) rows.push_back(encode(pair.prompt, pair.positive, chat));
    for (const auto& pair : input_.heldout) rows.push_back(encode(pair.prompt, pair.negative, chat));

    at::Tensor attribution = at::zeros({sae_.config.latents}, at::kDouble);
    at::Tensor slope = at::zeros({sae_.config.d_out}, at::kDouble);  // of the metric by a vector that is added at every token
    Progress progress("Attributing", tokens_in(rows), "tokens", options_.progress);
    models::for_each_gradient(model_, rows, site_, [&](const models::SiteGradients& batch) {
      std::vector<double> weights;
      std::vector<int64_t> regular;  // tokens whose latents mean something
      const at::Tensor norms = batch.x.norm(2, {-1}).contiguous();
      for (size_t t = 0; t < batch.places.size(); ++t) {
        const auto& [row, position] = batch.places[t];
        weights.push_back((row < pairs ? 1.0 : -1.0) / static_cast<double>(pairs));
        const auto& [prompt, text] = rows[row];
        const auto place = static_cast<size_t>(position);
        const models::TokenId token = place < prompt.size() ? prompt[place] : text[place - prompt.size()];
        if (models::is_regular(model_.tokenizer(), token, norms.const_data_ptr<float>()[t], max_norm_))
          regular.push_back(static_cast<int64_t>(t));
      }
      const at::Tensor gradient = batch.gradient * at::tensor(weights, at::kFloat).unsqueeze(1);  // [tokens, d]
      const at::Tensor chosen = at::tensor(regular, at::kLong);
      attribution += sae::attribution(sae_, batch.x.index_select(0, chosen), gradient.index_select(0, chosen));
      slope += gradient.sum(0, false, at::kDouble);
      progress.advance(batch.places.size());
    });
    result_.scores[Score::attribution] = attribution;
    result_.scores[Score::predicted] = at::mv(directions.to(at::kDouble), slope) * (options_.dose * result_.median_norm);
  }

  models::Continuation encode(const std::string& prompt, const std::string& text, bool chat) const {
    return {model_.encode_prompt(prompt, chat), model_.tokenizer().encode(text, {.special_tokens = false})};
  }
  static uint64_t tokens_in(const std::vector<models::Continuation>& rows) {
    uint64_t tokens = 0;
    for (const auto& [prompt, text] : rows) tokens += prompt.size() + text.size();
    return tokens;
  }
  static uint64_t tokens_in(const Rows& rows) { return apps::tokens_in(rows); }

  /// The first of every ranking that there is for all latents.
  void choose_measured() {
    std::set<int64_t> chosen(options_.latents.begin(), options_.latents.end());
    for (const auto& entry : result_.scores) {
      const std::vector<int64_t> ranking = order(entry.first);
      const int64_t count = std::max(options_.candidates, entry.first == options_.by ? options_.top : 0);
      chosen.insert(ranking.begin(), ranking.begin() + std::min(count, static_cast<int64_t>(ranking.size())));
    }
    result_.measured.assign(chosen.begin(), chosen.end());
    promoted_ = models::logit_lens(model_, sae_.weights.decoder.index_select(0, at::tensor(result_.measured, at::kLong)));
  }

  void measure_output() {
    const at::Tensor scores = sae::output_scores(model_, sae_, site_, result_.measured, promoted_, model_.encode_prompt(options_.prompt));
    result_.scores[Score::output] = unmeasured(sae_.config.latents);
    score(Score::output).index_copy_(0, at::tensor(result_.measured, at::kLong), scores.to(at::kDouble));
  }

  void measure_shift(const at::Tensor& directions) {
    steering::EffectMeter meter(model_, input_.heldout, input_.neutral, {.chat = !model_.config().chat_format.empty()});
    result_.scores[Score::shift] = unmeasured(sae_.config.latents);
    result_.kl = unmeasured(sae_.config.latents);
    Progress progress("Measuring", result_.measured.size(), "latents", options_.progress);
    for (const int64_t latent : result_.measured) {
      const AttachedEdit edit = attach(model_.module(), site_, Edit({add(directions[latent])}),
                                       {.coefficients = at::scalar_tensor(options_.dose * result_.median_norm)});
      const steering::Effect effect = meter.measure();
      edit.require_fired();
      score(Score::shift)[latent] = effect.shift;
      result_.kl[latent] = effect.kl_mean;
      progress.advance(1);
    }
  }

  void place() {
    result_.reads = Score::auroc;
    result_.writes = result_.scores.contains(Score::predicted) ? Score::predicted : Score::output;
    result_.read_place = sae::places_in(order(result_.reads), sae_.config.latents);
    result_.write_place = sae::places_in(order(result_.writes), sae_.config.latents);
  }

  void show() {
    std::vector<int64_t> latents = order(options_.by);
    latents.resize(std::min(latents.size(), static_cast<size_t>(options_.top)));
    for (const int64_t latent : options_.latents)
      if (std::find(latents.begin(), latents.end(), latent) == latents.end()) latents.push_back(latent);

    for (const int64_t latent : latents) {
      const auto measured = std::lower_bound(result_.measured.begin(), result_.measured.end(), latent) - result_.measured.begin();
      const at::Tensor logits = promoted_[measured];  // [vocabulary]
      result_.shown.push_back({.latent = latent, .promoted = top_tokens(logits), .suppressed = top_tokens(-logits), .contexts = {}});
    }
    if (options_.contexts > 0) find_contexts(latents);
  }

  std::vector<std::string> top_tokens(const at::Tensor& logits) const {
    // Rows of the head beyond the tokenizer's vocabulary are no tokens.
    const at::Tensor known = logits.narrow(0, 0, model_.tokenizer().vocabulary_size());
    const at::Tensor top = std::get<1>(known.topk(std::min(kPromoted, known.size(0))));
    std::vector<std::string> tokens;
    for (int64_t i = 0; i < top.size(0); ++i) tokens.push_back(model_.tokenizer().bytes(top[i].item<int64_t>()));
    return tokens;
  }

  void find_contexts(const std::vector<int64_t>& latents) {
    const Rows& rows = input_.text.empty() ? prompts_ : input_.text;
    sae::TopContexts contexts(latents, static_cast<size_t>(options_.contexts), options_.window);
    Progress progress("Finding contexts", apps::tokens_in(rows), "tokens", options_.progress);
    const auto visit = [&](const models::TokenActivations& batch) {
      size_t first = 0;
      for (const at::Tensor& part : sae::encodable_parts(sae_, batch.x)) {
        const auto count = static_cast<size_t>(part.size(0));
        contexts.add(sae::encode(sae_, part), std::span(batch.places).subspan(first, count), rows);
        first += count;
      }
    };
    models::for_each_batch(model_, rows, site_, visit,
                           {.max_norm = max_norm_, .on_tokens = [&](uint64_t tokens) { progress.advance(tokens); }});
    for (size_t i = 0; i < latents.size(); ++i) {
      for (const auto& [activation, place] : contexts.contexts()[i]) {
        const auto& row = rows[place.row];
        const int64_t at = place.position, begin = std::max<int64_t>(0, at - options_.window);
        const int64_t end = std::min(static_cast<int64_t>(row.size()), at + 1 + options_.window / 2);
        const auto text = [&](int64_t from, int64_t to) {
          return models::valid_utf8(
              model_.tokenizer().decode(std::span(row).subspan(static_cast<size_t>(from), static_cast<size_t>(to - from))));
        };
        result_.shown[i].contexts.push_back({activation, text(begin, at), text(at, at + 1), text(at + 1, end)});
      }
    }
  }

  models::LanguageModel& model_;
  const sae::Autoencoder& sae_;
  const Site site_;
  const LatentStudyInput& input_;
  const LatentStudyOptions& options_;
  Rows prompts_;  // the positive ones, then the negative ones
  double max_norm_ = 0;
  at::Tensor promoted_;  // logit lens of the measured latents [measured, vocabulary]
  LatentStudy result_;
};

}  // namespace

std::string_view name_of(Score score) {
  return std::ranges::find_if(kScores, [&](const auto& entry) { return entry.first == score; })->second;
}

Score score_from_name(std::string_view name) {
  std::vector<std::string_view> names;
  for (const auto& [score, known] : kScores) {
    if (known == name) return score;
    names.push_back(known);
  }
  throw UsageError(fmt::format("--by {}: expected one of {}", name, fmt::join(names, ", ")));
}

void validate(const LatentStudyOptions& options, const LatentStudyInput& input, int64_t latents) {
  const auto require = [](bool good, const char* option, auto found, std::string_view expected) {
    if (!good) throw UsageError(fmt::format("--{} {}: expected {}", option, found, expected));
  };
  require(options.top >= 1, "top", options.top, "at least 1");
  require(options.candidates >= 0, "candidates", options.candidates, "0 or more");
  require(options.contexts >= 0, "contexts", options.contexts, "0 or more");
  require(options.window >= 1, "window", options.window, "at least 1 token");
  require(std::isfinite(options.dose) && options.dose > 0, "dose", options.dose, "a positive number");
  for (const int64_t latent : options.latents)
    require(latent >= 0 && latent < latents, "latent", latent,
            fmt::format("0 to {}, as the autoencoder has {} latents", latents - 1, latents));
  const bool heldout = !input.heldout.empty();
  const std::string_view by = name_of(options.by);
  if (options.by == Score::attribution || options.by == Score::predicted) require(heldout, "by", by, "--heldout with it");
  if (options.by == Score::shift) require(heldout && !input.neutral.empty(), "by", by, "--heldout and --neutral with it");
  if (options.by == Score::cosine) require(input.vector.defined(), "by", by, "--vector with it");
}

LatentStudy study_latents(models::LanguageModel& model, const sae::Autoencoder& sae, const Site& site, const LatentStudyInput& input,
                          const LatentStudyOptions& options) {
  validate(options, input, sae.config.latents);
  const at::NoGradGuard no_grad;
  return Study(model, sae, site, input, options).run();
}

}  // namespace vyx::apps
