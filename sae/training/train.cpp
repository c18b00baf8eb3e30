#include "sae/training/train.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/base/stopwatch.h"
#include "core/io/files.h"
#include "core/io/folder_lock.h"
#include "sae/files/saelens.h"
#include "sae/metrics/latent_statistics.h"
#include "sae/training/checkpoint.h"
#include "sae/training/metrics_log.h"
#include "sae/training/trainer.h"
#include "sae/training/training_page.h"
#include "sae/training/training_warnings.h"

namespace vyx::sae {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfigFile = "cfg.json";  // written last: it makes the folder an autoencoder
constexpr const char* kLogFile = "metrics.jsonl";
constexpr uint64_t kStatisticsTokens = 65'536;  // on which the finished latents are measured, or an
                                                // eighth of the run's if that is less

constexpr double kMeanDominates = 3;  // times the deviation

// Of the sites of a source; throws Error where they are no crosscoder's.
std::vector<SiteNorms> checked_norms(const ActivationSource& source) {
  std::vector<SiteNorms> sites = source.norms();
  for (const SiteNorms& site : sites) {
    if (site.width != sites.front().width)
      fail("{}: found width {}, {} has {}; expected sites of one width in one autoencoder",
           site.site, site.width, sites.front().site, sites.front().width);
    if (!std::isfinite(site.mean_norm) || !(site.mean_norm > 0))
      fail(
          "{}: the activations' mean norm: found {}, expected a positive number; are they all "
          "zero?",
          site.site, site.mean_norm);
  }
  return sites;
}

std::vector<double> scales_of(const std::vector<SiteNorms>& sites) {
  std::vector<double> scales;
  for (const SiteNorms& site : sites) scales.push_back(scale_of(site));
  return scales;
}

// What the data say of the autoencoder: widths and scales.
void complete(AutoencoderConfig& config, const ActivationSource& source,
              const ActivationSource* target, const TrainCallbacks& callbacks) {
  config.d_in = source.width();
  config.d_out = target ? target->width() : source.width();
  const std::vector<SiteNorms> sites = checked_norms(source),
                               targets = target ? checked_norms(*target) : std::vector<SiteNorms>();
  for (const auto* side : {&sites, &targets})
    for (const SiteNorms& site : *side)
      if (callbacks.on_note && site.center > kMeanDominates * site.deviation)
        callbacks.on_note(fmt::format(
            "{}: the mean is {:.1f} times as long as rows deviate from it; b_dec begins at the "
            "median, and explained variance is of the deviation alone",
            site.site, site.center / site.deviation));
  if (config.normalization != Normalization::scale) return;
  config.scales = scales_of(sites);
  config.target_scales = scales_of(targets);
}

// What must be the same when a run resumes.
Json record_of(const TrainOptions& options, const ActivationSource& source,
               const ActivationSource* target) {
  Json record{{"options", to_json(options)}, {"activations", source.provenance()}};
  if (target) record["target"] = target->provenance();
  return record;
}

void require_same(const Json& now, const Json& then, const fs::path& checkpoint) {
  const auto compare = [&](const char* part, std::initializer_list<std::string> first,
                           const auto& name, std::string_view fix) {
    const Json ours = now.value(part, Json::object()), theirs = then.value(part, Json::object());
    if (const auto key = differing_key(ours, theirs, first))
      fail("{}: found {}, but {} was made with {}; {}", name(*key), ours.value(*key, Json()).dump(),
           checkpoint.string(), theirs.value(*key, Json()).dump(), fix);
  };
  // First those that a recipe derives others from.
  compare(
      "options", {"architecture", "sparsity-form", "latents", "batch", "steps"},
      [](const std::string& key) { return (is_option(key) ? "--" : "the recipe's ") + key; },
      "give it as then, or start again with --overwrite");
  for (const std::string data : {"activations", "target"})
    compare(
        data.c_str(), {}, [&](const std::string& key) { return data + ": " + key; },
        "resume on the same activations, or start again with --overwrite");
}

struct Batch {
  at::Tensor x;       // [batch, d_in]
  at::Tensor target;  // [batch, d_out]; undefined: x
};

class Run {
 public:
  Run(ActivationSource& source, ActivationSource* target, TrainOptions options,
      const fs::path& folder, const TrainCallbacks& callbacks)
      : source_(source),
        target_(target),
        options_(std::move(options)),
        folder_(folder),
        checkpoints_(folder / "checkpoints"),
        callbacks_(callbacks),
        record_(record_of(options_, source, target)) {}

  TrainResult run(ExistingRun existing);

 private:
  std::optional<LoadedCheckpoint> open(ExistingRun existing) const;
  TrainState resumed(LoadedCheckpoint loaded) const;
  Batch batch(uint64_t step) const;
  bool go_on(Trainer& trainer, Batch first, MetricsLog& log) const;
  void save(const TrainState& state, MetricsLog& log) const;
  std::string last_good() const;
  LatentStatistics measure(const Autoencoder& sae) const;
  void write_outputs(const TrainState& state) const;
  void note(const std::string& text) const {
    if (callbacks_.on_note) callbacks_.on_note(text);
  }

  ActivationSource& source_;
  ActivationSource* target_;
  TrainOptions options_;
  fs::path folder_, checkpoints_;
  const TrainCallbacks& callbacks_;
  Json record_;
};

// Batches behind those of the training, so that the source goes on in rising order and a run that
// resumes measures on the same.
LatentStatistics Run::measure(const Autoencoder& sae) const {
  const auto batch = static_cast<uint64_t>(options_.batch);
  const uint64_t tokens = std::min(kStatisticsTokens, options_.steps * batch / 8);
  return measure_latents(sae, source_, options_.steps,
                         std::max<uint64_t>(1, (tokens + batch - 1) / batch));
}

// The checkpoint to go on from; nullopt: step 0.
std::optional<LoadedCheckpoint> Run::open(ExistingRun existing) const {
  const bool has_output = fs::exists(folder_ / kConfigFile);
  if (existing == ExistingRun::resume) {
    if (auto loaded = load_checkpoint(checkpoints_)) return loaded;
    if (has_output)
      fail(
          "{}: found an autoencoder and no checkpoint to resume from; start again with --overwrite",
          folder_.string());
    note(fmt::format("{}: found no checkpoint to resume from; starting at step 0",
                     folder_.string()));
  } else if (existing == ExistingRun::refuse) {
    const auto published = list_checkpoints(checkpoints_);
    if (has_output || (published && !published->empty()))
      fail("{}: found {}; --resume goes on with it, --overwrite starts again", folder_.string(),
           has_output ? "a trained autoencoder"
                      : fmt::format("a run at step {}", published->front().step));
  }
  fs::remove(folder_ / kConfigFile);  // from here on the folder holds no finished run
  start_checkpoints(checkpoints_);
  return std::nullopt;
}

TrainState Run::resumed(LoadedCheckpoint loaded) const {
  for (const std::string& skipped : loaded.skipped)
    note(fmt::format("{}; going on from {}", skipped, loaded.file.string()));
  require_same(record_, loaded.run, loaded.file);
  const AutoencoderConfig saved = loaded.state.sae.config;
  loaded.state.sae.config = options_.autoencoder;
  loaded.state.sae.config.scales = saved.scales;
  loaded.state.sae.config.target_scales = saved.target_scales;
  validate(loaded.state.sae, loaded.file.string());
  return std::move(loaded.state);
}

Batch Run::batch(uint64_t step) const {
  const auto checked = [&](ActivationSource& source) {
    at::Tensor x = source.batch(step);  // [batch, d]
    if (x.dim() != 2 || x.size(0) != options_.batch || x.size(1) != source.width())
      fail("step {}: the activations' batch is [{}], expected [{}, {}]", step,
           fmt::join(x.sizes(), ", "), options_.batch, source.width());
    return x;
  };
  return {checked(source_), target_ ? checked(*target_) : at::Tensor()};
}

std::string Run::last_good() const {
  const auto published = list_checkpoints(checkpoints_);
  if (!published || published->empty()) return "no checkpoint had been saved yet";
  return fmt::format("the last good checkpoint is {} (step {})",
                     (checkpoints_ / published->front().file).string(), published->front().step);
}

void Run::save(const TrainState& state, MetricsLog& log) const {
  log.sync();  // a checkpoint says that the lines before it are there
  save_checkpoint(checkpoints_, state, record_);
}

// Returns whether the run is finished. `first`, when defined, is the batch of the next step.
bool Run::go_on(Trainer& trainer, Batch first, MetricsLog& log) const {
  Stopwatch since_line;
  uint64_t tokens_since = 0;
  while (trainer.state().step < options_.steps) {
    const Batch now = first.x.defined() ? std::exchange(first, {}) : batch(trainer.state().step);
    trainer.step(now.x, now.target);
    const auto tokens = static_cast<uint64_t>(options_.batch);
    tokens_since += tokens;
    if (callbacks_.on_step) callbacks_.on_step(tokens);

    const uint64_t step = trainer.state().step;
    const bool finished = step == options_.steps;
    if (finished || step % options_.log_every == 0) {
      Json line = trainer.take_metrics();
      line["tokens_per_second"] =
          static_cast<double>(std::exchange(tokens_since, 0)) / since_line.lap();
      log.append(line);
    }
    const bool stop = callbacks_.should_stop && callbacks_.should_stop();
    if (finished || stop || step % options_.checkpoint_every == 0) save(trainer.state(), log);
    if (stop && !finished) return false;
  }
  return true;
}

void Run::write_outputs(const TrainState& state) const {
  Autoencoder sae = fold_scale(state.sae);
  const double counted =
      static_cast<double>(steps_counted(options_)) * static_cast<double>(options_.batch);
  const at::Tensor sparsity =
      at::log10(state.firings.to(at::kDouble) / counted + 1e-10).to(at::kFloat);  // [latents]
  sae.config.metadata["training"] = record_["options"];
  sae.config.metadata["activations"] = record_["activations"];
  sae.config.metadata["training_tokens"] = state.step * static_cast<uint64_t>(options_.batch);
  write_latent_statistics(folder_ / kLatentStatisticsFile, measure(sae));
  write_file(folder_ / "training.html", training_page(read_metrics(folder_ / kLogFile),
                                                      record_["options"], record_["activations"]));
  write_saelens(sae, folder_, sparsity);
}

TrainResult Run::run(ExistingRun existing) {
  const Stopwatch stopwatch;
  make_folder(checkpoints_);
  const FolderLock lock(folder_), checkpoints_lock(checkpoints_);
  lock.remove_leftovers();
  checkpoints_lock.remove_leftovers();

  std::optional<LoadedCheckpoint> loaded = open(existing);
  Batch first;
  TrainState state;
  if (loaded) {
    state = resumed(*std::move(loaded));
  } else {
    first = batch(0);
    state = initial_state(options_, first.x, first.target);
  }
  const auto tokens_at = [&](uint64_t step) {
    return step * static_cast<uint64_t>(options_.batch);
  };
  if (callbacks_.on_start) callbacks_.on_start(state.step, tokens_at(state.step));
  MetricsLog log(folder_ / kLogFile, state.step);
  Trainer trainer(options_, std::move(state));

  TrainResult result;
  try {
    result.finished = go_on(trainer, std::move(first), log);
  } catch (const Diverged& error) {
    fail("{}; {}; start again with a lower --lr (now {})", error.what(), last_good(),
         options_.learning_rate);
  }
  if (result.finished) write_outputs(trainer.state());
  result.step = trainer.state().step;
  result.tokens = tokens_at(result.step);
  result.seconds = stopwatch.seconds();
  const auto lines = read_metrics(folder_ / kLogFile);
  if (!lines.empty()) result.metrics = lines.back();
  if (result.finished) result.warnings = training_warnings(result.metrics, record_["options"]);
  result.checkpoint = checkpoints_ / list_checkpoints(checkpoints_)->front().file;
  return result;
}

}  // namespace

TrainResult train(ActivationSource& source, ActivationSource* target, TrainOptions options,
                  const fs::path& folder, ExistingRun existing, const TrainCallbacks& callbacks) {
  complete(options.autoencoder, source, target, callbacks);
  validate(options);
  return Run(source, target, std::move(options), folder, callbacks).run(existing);
}

}  // namespace vyx::sae
