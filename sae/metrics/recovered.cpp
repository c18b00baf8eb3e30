#include "sae/metrics/recovered.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "core/base/error.h"
#include "core/base/json_number.h"
#include "core/hooks/activation.h"
#include "core/hooks/activation_reader.h"
#include "models/activations/row_filter.h"
#include "models/language_model/batch.h"

namespace vyx::sae {
namespace {

constexpr int64_t kHeadTokens =
    256;  // of one product with the head: logits of 50 MB at 49,152 tokens of vocabulary
constexpr size_t kMedianTokens = 8192;  // enough for a median

enum class Replace { nothing, norms, sums, reconstruction, zero, mean };

Site only_site(models::LanguageModel& model, const std::vector<std::string>& sites,
               const char* what) {
  if (sites.size() != 1)
    fail("the autoencoder has {} {}, expected one; what a model recovers is measured at one site",
         sites.size(), what);
  return model.module().match(sites.front()).front();
}

/// Reads the autoencoder's site and replaces its target's activation, in the runs of run().
class Replacer {
 public:
  Replacer(models::LanguageModel& model, const Autoencoder& sae, double sink_threshold)
      : module_(model.module()),
        sae_(to_device(sae, model.device())),
        sink_threshold_(sink_threshold),
        input_(only_site(model, sae.config.sites, "sites")) {
    target_ = sae.config.target_sites.empty()
                  ? input_
                  : only_site(model, sae.config.target_sites, "target sites");
    sites_ = {input_};
    if (target_ != input_) sites_.push_back(target_);
  }

  /// Calls `run`, in whose runs of the model `what` happens to the `eligible` rows [batch, seq].
  void run(Replace what, at::Tensor eligible, const std::function<void()>& run) {
    if (what == Replace::nothing) return run();
    what_ = what;
    eligible_ = std::move(eligible);
    x_.reset();
    const auto hook = [this](const Site& site, const c10::IValue& value) {
      return called(site, value);
    };
    run_hooked(module_, sites_, hook, run);
  }

  /// From the norms that were seen.
  void set_limit() {
    limit_ = models::sink_limit(at::cat(norms_).median().item<double>(), sink_threshold_);
  }
  void set_mean() {
    if (seen_ == 0)
      fail("{}: found no row to replace in the text, expected some; give more text", input_.name());
    mean_ = sum_ / seen_;
  }
  int64_t replaced() const { return replaced_; }

 private:
  std::optional<c10::IValue> called(const Site& site, const c10::IValue& value) {
    const at::Tensor found = activation_at(site, value, eligible_.sizes());  // [batch, seq, d]
    if (site == input_) read(found);
    if (site != target_ || what_ == Replace::norms) return std::nullopt;
    if (!x_.defined())
      fail("{}: found it called before {}, expected after", target_.name(), input_.name());
    const at::Tensor rows = found.index({chosen_});  // [chosen, d_out]
    require_width(site, rows, sae_.config.d_out);
    if (what_ == Replace::sums) {
      const at::Tensor sum = rows.sum(0, /*keepdim=*/false, at::kDouble);  // [d_out]
      sum_ = sum_.defined() ? sum_ + sum : sum;
      seen_ += rows.size(0);
      return std::nullopt;
    }
    at::Tensor y = found.clone();  // [batch, seq, d_out]
    y.index_put_({chosen_}, replacement(rows).to(y.scalar_type()));
    if (what_ == Replace::reconstruction) replaced_ += rows.size(0);
    return with_activation(value, y);
  }

  void read(const at::Tensor& x) {  // [batch, seq, d_in]
    require_width(input_, x, sae_.config.d_in);
    const at::Tensor norms = models::row_norms(x.to(at::kFloat));  // [batch, seq]
    if (what_ == Replace::norms) norms_.push_back(norms.index({eligible_}));
    chosen_ = eligible_ & models::are_within(norms, limit_);
    x_ = x.index({chosen_});
  }

  at::Tensor replacement(const at::Tensor& rows) const {  // [chosen, d_out]
    if (what_ == Replace::reconstruction) return reconstruct(sae_, x_);
    return what_ == Replace::zero ? at::zeros_like(rows) : mean_.expand_as(rows);
  }

  static void require_width(const Site& site, const at::Tensor& x, int64_t width) {
    if (x.size(-1) != width)
      fail(
          "{}: found activations of width {}, expected {} as the autoencoder has; is it for "
          "another model?",
          site.name(), x.size(-1), width);
  }

  HookedModule module_;
  Autoencoder sae_;
  double sink_threshold_, limit_ = models::kAnyNorm;
  Site input_, target_;
  std::vector<Site> sites_;  // both, or the one
  Replace what_ = Replace::nothing;
  at::Tensor eligible_, chosen_;  // [batch, seq] bool: may be replaced; is
  at::Tensor x_;                  // the chosen rows at the input [chosen, d_in]
  std::vector<at::Tensor> norms_;
  at::Tensor sum_, mean_;  // of the target's chosen rows [d_out] float64
  int64_t seen_ = 0, replaced_ = 0;
};

struct Part {
  models::Batch batch;
  at::Tensor real, eligible;  // [batch, seq] bool
};

std::vector<Part> make_parts(const models::LanguageModel& model,
                             std::span<const std::vector<models::TokenId>> rows,
                             const RecoveredOptions& options) {
  std::vector<int64_t> lengths;
  for (size_t r = 0; r < rows.size(); ++r) {
    const auto length = static_cast<int64_t>(rows[r].size());
    model.require_context(length, 0, fmt::format("row {} of the text", r + 1));
    lengths.push_back(length);
  }
  std::vector<Part> parts;
  for (const std::vector<size_t>& members :
       models::batches_by_length(lengths, options.max_batch_tokens)) {
    std::vector<std::vector<models::TokenId>> tokens;
    for (const size_t member : members) tokens.push_back(rows[member]);
    Part part{.batch = models::make_batch(tokens, models::Padding::right, model.pad_token())};
    part.real =
        part.batch.mask.defined() ? part.batch.mask : at::ones_like(part.batch.ids, at::kBool);
    part.eligible = models::text_rows(
        models::facts_of(model.tokenizer(), part.batch.ids, part.real), options.replace_special);
    parts.push_back(std::move(part));
  }
  return parts;
}

/// Sums over the predicted tokens of `part` into `losses`: clean, and as `replacements` leave it.
int64_t add_losses(models::LanguageModel& model, Replacer& replacer, const Part& part,
                   std::array<Recovered::Loss*, 4> losses) {
  constexpr std::array kReplacements = {Replace::nothing, Replace::reconstruction, Replace::zero,
                                        Replace::mean};
  const at::Tensor predicted =
      part.real.slice(1, 1) & part.real.slice(1, 0, -1);  // [batch, seq − 1]
  const at::Tensor targets =
      part.batch.ids.slice(1, 1).index({predicted}).unsqueeze(1).to(model.device());  // [tokens, 1]
  std::array<at::Tensor, 4> hidden;  // [tokens, d_model]
  for (size_t i = 0; i < hidden.size(); ++i) {
    replacer.run(kReplacements[i], part.eligible.to(model.device()), [&] {
      hidden[i] = model.run({.ids = part.batch.ids, .real = part.batch.mask})
                      .slice(1, 0, -1)
                      .index({predicted.to(model.device())});
    });
  }
  for (int64_t first = 0; first < targets.size(0); first += kHeadTokens) {
    const at::Tensor target = targets.slice(0, first, first + kHeadTokens);
    at::Tensor clean;  // log-probabilities [part, vocabulary]
    for (size_t i = 0; i < hidden.size(); ++i) {
      const at::Tensor scores =
          model.head(hidden[i].slice(0, first, first + kHeadTokens)).log_softmax(-1);
      losses[i]->cross_entropy -= scores.gather(1, target).sum(at::kDouble).item<double>();
      if (i == 0) {
        clean = scores;
      } else {
        losses[i]->kl += (clean.exp() * (clean - scores)).sum(at::kDouble).item<double>();
      }
    }
  }
  return targets.size(0);
}

}  // namespace

double Recovered::cross_entropy_score(const Loss& ablated) const {
  return (ablated.cross_entropy - reconstruction.cross_entropy) /
         (ablated.cross_entropy - clean.cross_entropy);
}

double Recovered::kl_score(const Loss& ablated) const {
  return (ablated.kl - reconstruction.kl) / ablated.kl;
}

Recovered measure_recovered(models::LanguageModel& model, const Autoencoder& sae,
                            std::span<const std::vector<models::TokenId>> rows,
                            const RecoveredOptions& options) {
  if (rows.empty()) fail("there is no text to measure with; give some");
  const at::NoGradGuard no_grad;
  Replacer replacer(model, sae, options.sink_threshold);
  const std::vector<Part> parts = make_parts(model, rows, options);

  const auto survey = [&](Replace what, size_t tokens) {
    for (size_t i = 0, seen = 0; i < parts.size() && seen < tokens; ++i) {
      replacer.run(what, parts[i].eligible.to(model.device()), [&] {
        model.harvest({.ids = parts[i].batch.ids, .real = parts[i].batch.mask});
      });
      seen += static_cast<size_t>(parts[i].real.sum().item<int64_t>());
    }
  };
  survey(Replace::norms, kMedianTokens);
  replacer.set_limit();
  survey(Replace::sums, std::numeric_limits<size_t>::max());
  replacer.set_mean();

  Recovered result;
  const std::array losses = {&result.clean, &result.reconstruction, &result.zero, &result.mean};
  int64_t real = 0;
  for (const Part& part : parts) {
    result.tokens += add_losses(model, replacer, part, losses);
    const auto tokens = part.real.sum().item<int64_t>();
    real += tokens;
    if (options.on_tokens) options.on_tokens(static_cast<uint64_t>(tokens));
  }
  if (result.tokens == 0)
    fail("the text has no token that another one predicts, expected rows of at least two tokens");
  result.replaced = replacer.replaced();
  result.left = real - result.replaced;
  for (Recovered::Loss* loss : losses) {
    loss->cross_entropy /= static_cast<double>(result.tokens);
    loss->kl /= static_cast<double>(result.tokens);
  }
  return result;
}

Json to_json(const Recovered& recovered) {
  const auto replaced = [&](const Recovered::Loss& loss) -> Json {
    return {{"cross_entropy", number_or_null(loss.cross_entropy)}, {"kl", number_or_null(loss.kl)}};
  };
  const auto scores = [&](const Recovered::Loss& ablated) -> Json {
    return {{"cross_entropy_score", number_or_null(recovered.cross_entropy_score(ablated))},
            {"kl_score", number_or_null(recovered.kl_score(ablated))}};
  };
  return {{"tokens", recovered.tokens},
          {"replaced", recovered.replaced},
          {"left", recovered.left},
          {"clean", replaced(recovered.clean)},
          {"reconstruction", replaced(recovered.reconstruction)},
          {"zero", replaced(recovered.zero)},
          {"mean", replaced(recovered.mean)},
          {"against_zero", scores(recovered.zero)},
          {"against_mean", scores(recovered.mean)}};
}

std::string to_text(const Recovered& recovered) {
  std::string text = fmt::format(
      "\n{} tokens predicted; {} rows replaced, {} left as they are (special tokens, attention "
      "sinks)\n",
      recovered.tokens, recovered.replaced, recovered.left);
  text += fmt::format("{:<16} {:>14} {:>10} {:>14} {:>14}\n", "", "cross-entropy", "KL",
                      "CE recovered", "KL recovered");
  for (const auto& [what, loss] :
       {std::pair{"clean", &recovered.clean}, {"reconstruction", &recovered.reconstruction}})
    text += fmt::format("{:<16} {:>14.4f} {:>10.4f}\n", what, loss->cross_entropy, loss->kl);
  for (const auto& [what, loss] :
       {std::pair{"zero ablation", &recovered.zero}, {"mean ablation", &recovered.mean}})
    text += fmt::format("{:<16} {:>14.4f} {:>10.4f} {:>12.2f} % {:>12.2f} %\n", what,
                        loss->cross_entropy, loss->kl, 100 * recovered.cross_entropy_score(*loss),
                        100 * recovered.kl_score(*loss));
  return text;
}

}  // namespace vyx::sae
