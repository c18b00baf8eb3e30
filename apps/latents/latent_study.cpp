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

#include "core/base/error.h"
#include "core/base/progress.h"
#include "core/base/utf8_stream.h"
#include "core/edits/attached_edit.h"
#include "core/edits/edit.h"
#include "models/activations/gradients.h"
#include "models/activations/logit_lens.h"
#include "models/activations/row_activations.h"
#include "sae/latents/attribution.h"
#include "sae/latents/contexts.h"
#include "sae/latents/output_score.h"
#include "sae/latents/preference.h"
#include "sae/latents/ranking.h"
#include "sae/latents/reading.h"
#include "steering/effects/effects.h"

namespace vyx::apps {
namespace {

using Rows = std::vector<std::vector<models::TokenId>>;

constexpr std::array<std::pair<Score, std::string_view>, 7> kScores{
    {{Score::auroc, "auroc"},
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
  Study(models::LanguageModel& model, const sae::Autoencoder& sae, const Site& site,
        const LatentStudyInput& input, const LatentStudyOptions& options)
      : model_(model),
        sae_(sae),
        site_(site),
        input_(input),
        options_(options),
        chat_(!model.config().tokens.chat_format.empty()) {
    for (const auto& pair : input.contrast.pairs)
      prompts_.push_back(model.encode_prompt(pair.positive));
    for (const auto& pair : input.contrast.pairs)
      prompts_.push_back(model.encode_prompt(pair.negative));
    result_.site = site.name();
    result_.median_norm =
        models::median_norm(model, prompts_.empty() ? input.text : prompts_, site);
    max_norm_ = models::sink_limit(result_.median_norm);
  }

  LatentStudy run() {
    if (!prompts_.empty()) read();
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
    // Many latents may have the AUROC 1: the difference orders them.
    const bool is_auroc = which == Score::auroc;
    return sae::descending(result_.scores.at(which),
                           is_auroc ? result_.scores.at(Score::difference) : at::Tensor());
  }

  void read() {
    Progress progress("Reading", tokens_in(prompts_), "tokens", options_.progress);
    const size_t pairs = input_.contrast.pairs.size();
    const sae::Reading reading = sae::read_sides(
        model_, sae_, site_, std::span(prompts_).first(pairs), std::span(prompts_).subspan(pairs),
        {.all_tokens = options_.all_tokens,
         .max_norm = max_norm_,
         .on_tokens = [&](uint64_t tokens) { progress.advance(tokens); }});
    result_.scores[Score::auroc] = reading.separation.auroc.to(at::kDouble);
    result_.scores[Score::difference] = reading.separation.difference.to(at::kDouble);
    result_.prompts = static_cast<uint64_t>(reading.positives + reading.negatives);
    result_.left = reading.left;
  }

  void follow_gradients(const at::Tensor& directions) {
    std::vector<models::Continuation> positive, negative;
    uint64_t tokens = 0;
    for (const auto& pair : input_.heldout) {
      const steering::EncodedPair encoded = steering::encode_pair(model_, pair, chat_);
      positive.push_back({encoded.prompt, encoded.positive});
      negative.push_back({encoded.prompt, encoded.negative});
      tokens += 2 * encoded.prompt.size() + encoded.positive.size() + encoded.negative.size();
    }
    Progress progress("Attributing", tokens, "tokens", options_.progress);
    const auto [attribution, slope] =
        sae::preference_gradient(model_, sae_, site_, positive, negative, max_norm_,
                                 [&](uint64_t done) { progress.advance(done); });
    result_.scores[Score::attribution] = attribution;
    result_.scores[Score::predicted] = at::mv(directions.to(at::kDouble), slope) * added_norm();
  }

  /// Where contexts are looked for.
  const Rows& rows() const { return input_.text.empty() ? prompts_ : input_.text; }

  /// The norm of the vector that is added to measure a shift.
  double added_norm() const { return options_.dose * result_.median_norm; }

  /// The first of every ranking that there is for all latents.
  void choose_measured() {
    std::set<int64_t> chosen(options_.latents.begin(), options_.latents.end());
    for (const auto& entry : result_.scores) {
      const std::vector<int64_t> ranking = order(entry.first);
      chosen.insert(
          ranking.begin(),
          ranking.begin() + std::min(options_.candidates, static_cast<int64_t>(ranking.size())));
    }
    if (options_.by && result_.scores.contains(*options_.by))
      for (const int64_t latent : leading()) chosen.insert(latent);
    result_.measured.assign(chosen.begin(), chosen.end());
    promoted_ = models::logit_lens(
        model_, sae_.weights.decoder.index_select(0, at::tensor(result_.measured, at::kLong)));
  }

  void measure_output() {
    const at::Tensor scores = sae::output_scores(model_, sae_, site_, result_.measured, promoted_,
                                                 model_.encode_prompt(options_.prompt));
    result_.scores[Score::output] = unmeasured(sae_.config.latents);
    score(Score::output)
        .index_copy_(0, at::tensor(result_.measured, at::kLong), scores.to(at::kDouble));
  }

  void measure_shift(const at::Tensor& directions) {
    steering::EffectMeter meter(model_, input_.heldout, input_.neutral,
                                {.chat = chat_, .first_block = model_.block_of(site_)});
    result_.scores[Score::shift] = unmeasured(sae_.config.latents);
    result_.kl = unmeasured(sae_.config.latents);
    Progress progress("Measuring", result_.measured.size(), "latents", options_.progress);
    for (const int64_t latent : result_.measured) {
      const AttachedEdit edit =
          attach(model_.module(), site_, Edit({Term::add(directions[latent].to(model_.device()))}),
                 {.coefficients = at::scalar_tensor(added_norm())});
      const steering::Effect effect = meter.measure();
      edit.require_fired();
      score(Score::shift)[latent] = effect.shift;
      result_.kl[latent] = effect.kl_mean;
      progress.advance(1);
    }
  }

  void place() {
    if (result_.scores.contains(Score::auroc)) result_.reads = Score::auroc;
    result_.writes = result_.scores.contains(Score::predicted) ? Score::predicted : Score::output;
    result_.read_place = sae::places_in(
        result_.reads ? order(*result_.reads) : std::vector<int64_t>(), sae_.config.latents);
    result_.write_place = sae::places_in(order(result_.writes), sae_.config.latents);
  }

  /// The latents that are shown for their place in the order.
  std::vector<int64_t> leading() const {
    if (!options_.by) return {};
    std::vector<int64_t> latents = order(*options_.by);
    const auto top = std::min(latents.size(), static_cast<size_t>(options_.top));
    // A latent against the vector says as much as one along it.
    const size_t last = *options_.by == Score::cosine ? std::min(latents.size() - top, top) : 0;
    latents.erase(latents.begin() + static_cast<int64_t>(top),
                  latents.end() - static_cast<int64_t>(last));
    return latents;
  }

  void show() {
    std::vector<int64_t> latents = leading();
    for (const int64_t latent : options_.latents)
      if (std::find(latents.begin(), latents.end(), latent) == latents.end())
        latents.push_back(latent);

    for (const int64_t latent : latents) {
      const auto measured =
          std::lower_bound(result_.measured.begin(), result_.measured.end(), latent) -
          result_.measured.begin();
      const at::Tensor logits = promoted_[measured];  // [vocabulary]
      result_.shown.push_back({.latent = latent,
                               .promoted = top_tokens(logits),
                               .suppressed = top_tokens(-logits),
                               .contexts = {}});
    }
    if (options_.contexts > 0) find_contexts(latents);
  }

  std::vector<std::string> top_tokens(const at::Tensor& logits) const {
    // Rows of the head beyond the tokenizer's vocabulary are no tokens.
    const at::Tensor known = logits.narrow(0, 0, model_.tokenizer().vocabulary_size());
    const at::Tensor top = std::get<1>(known.topk(std::min(kPromoted, known.size(0))));
    std::vector<std::string> tokens;
    for (int64_t i = 0; i < top.size(0); ++i)
      tokens.push_back(model_.tokenizer().bytes(top[i].item<int64_t>()));
    return tokens;
  }

  void find_contexts(const std::vector<int64_t>& latents) {
    result_.with_contexts = true;
    const Rows& rows = this->rows();
    sae::TopContexts contexts(latents, static_cast<size_t>(options_.contexts), options_.window);
    Progress progress("Finding contexts", tokens_in(rows), "tokens", options_.progress);
    const auto visit = [&](const models::TokenActivations& batch) {
      size_t first = 0;
      for (const at::Tensor& part : sae::encodable_parts(sae_, batch.x)) {
        const auto count = static_cast<size_t>(part.size(0));
        contexts.add(sae::encode(sae_, part), std::span(batch.places).subspan(first, count), rows);
        first += count;
      }
    };
    models::for_each_batch(
        model_, rows, site_, visit,
        {.max_norm = max_norm_, .on_tokens = [&](uint64_t tokens) { progress.advance(tokens); }});
    for (size_t i = 0; i < latents.size(); ++i) {
      for (const auto& [activation, place] : contexts.contexts()[i]) {
        const auto& row = rows[place.row];
        const int64_t at = place.position, begin = std::max<int64_t>(0, at - options_.window);
        const int64_t end =
            std::min(static_cast<int64_t>(row.size()), at + 1 + options_.window / 2);
        const auto text = [&](int64_t from, int64_t to) {
          return valid_utf8(model_.tokenizer().decode(
              std::span(row).subspan(static_cast<size_t>(from), static_cast<size_t>(to - from))));
        };
        result_.shown[i].contexts.push_back(
            {activation, text(begin, at), text(at, at + 1), text(at + 1, end)});
      }
    }
  }

  models::LanguageModel& model_;
  const sae::Autoencoder& sae_;
  const Site site_;
  const LatentStudyInput& input_;
  const LatentStudyOptions& options_;
  const bool chat_;
  Rows prompts_;  // the positive ones, then the negative ones
  double max_norm_ = 0;
  at::Tensor promoted_;  // logit lens of the measured latents [measured, vocabulary]
  LatentStudy result_;
};

}  // namespace

std::string_view name_of(Score score) {
  return std::ranges::find_if(kScores, [&](const auto& entry) { return entry.first == score; })
      ->second;
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
  require(std::isfinite(options.dose) && options.dose > 0, "dose", options.dose,
          "a positive number");
  for (const int64_t latent : options.latents)
    require(latent >= 0 && latent < latents, "show", latent,
            fmt::format("0 to {}, as the autoencoder has {} latents", latents - 1, latents));
  const bool heldout = !input.heldout.empty(), contrast = !input.contrast.pairs.empty();
  if (!contrast && input.text.empty())
    throw UsageError("expected --contrast, --template, or --show with --text");
  if (!options.by) return;
  const std::string_view by = name_of(*options.by);
  if (options.by == Score::auroc || options.by == Score::difference)
    require(contrast, "by", by, "--contrast or --template with it");
  if (options.by == Score::attribution || options.by == Score::predicted)
    require(heldout, "by", by, "--heldout with it");
  if (options.by == Score::shift)
    require(heldout && !input.neutral.empty(), "by", by, "--heldout and --neutral with it");
  if (options.by == Score::cosine) require(input.vector.defined(), "by", by, "--vector with it");
}

LatentStudy study_latents(models::LanguageModel& model, const sae::Autoencoder& sae,
                          const Site& site, const LatentStudyInput& input,
                          const LatentStudyOptions& options) {
  validate(options, input, sae.config.latents);
  const at::NoGradGuard no_grad;
  return Study(model, sae, site, input, options).run();
}

}  // namespace vyx::apps
