#include "tests/torch_support.h"

#include "sae/training/train.h"

#include <ATen/Parallel.h>

#include <stdexcept>

#include "core/io/files.h"
#include "core/io/folder_lock.h"
#include "sae/training/checkpoint.h"
#include "sae/training/metrics_log.h"
#include "tests/sae/random_autoencoder.h"
#include "tests/sae/training/planted_source.h"

using namespace vyx;
using namespace vyx::sae;
using vyx::sae::test::PlantedSource;
using vyx::test::contains;
using vyx::test::error_of;
using vyx::test::TemporaryFolder;

namespace {

namespace fs = std::filesystem;

constexpr uint64_t kSteps = 60;

TrainOptions options_of(Architecture architecture) {
  TrainOptions options = recipe({.architecture = architecture,
                                 .width = 16,
                                 .latents = 40,
                                 .tokens = kSteps * 64,
                                 .batch = 64});
  options.autoencoder.k = 4;
  options.learning_rate = 3e-3;
  options.objective.sparsity = architecture == Architecture::jump_relu ? 0.1 : 0.5;
  options.dead_after = 640;
  options.log_every = 7;
  options.checkpoint_every = 10;
  options.seed = 5;
  return options;
}

TrainResult train_in(const fs::path& folder, const TrainOptions& options,
                     const TrainCallbacks& callbacks = {},
                     ExistingRun existing = ExistingRun::refuse,
                     const PlantedSource::Options& data = {}) {
  PlantedSource source(data);
  return train(source, nullptr, options, folder, existing, callbacks);
}

TrainCallbacks stop_after(uint64_t steps) {
  return {.should_stop = [steps]() mutable { return --steps == 0; }};
}

// What killing the process leaves: an exception out of the loop saves nothing.
struct Killed : std::runtime_error {
  Killed() : std::runtime_error("killed") {}
};
TrainCallbacks die_after(uint64_t steps) {
  return {.on_step = [steps](uint64_t) mutable {
    if (--steps == 0) throw Killed();
  }};
}

Json log_of(const fs::path& folder) {
  Json lines = Json::array();
  for (Json line : read_metrics(folder / "metrics.jsonl")) {
    CHECK(line["tokens_per_second"].get<double>() > 0);
    line.erase("tokens_per_second");
    lines.push_back(line);
  }
  return lines;
}

void require_same_run(const fs::path& a, const fs::path& b) {
  for (const char* name :
       {"cfg.json", "sae_weights.safetensors", "sparsity.safetensors", "latents.safetensors"}) {
    INFO(name);
    CHECK(read_text_file(a / name) == read_text_file(b / name));
  }
  CHECK(read_text_file(a / "checkpoints" / "LATEST") ==
        read_text_file(b / "checkpoints" / "LATEST"));  // with the files' SHA-256
  CHECK(log_of(a) == log_of(b));
}

}  // namespace

TEST_CASE("[sae.train] planted features are learnt, and the log says so") {
  const TemporaryFolder folder;
  TrainOptions options = options_of(Architecture::topk);
  options.steps = 600;
  options.decay_steps = 120;
  const TrainResult result = train_in(folder.path(), options);
  CHECK(result.finished);
  CHECK(result.step == 600);
  CHECK(result.tokens == 600 * 64);
  CHECK(result.metrics["explained_variance"] > 0.8);
  CHECK(result.metrics["l0"] <= 4);
  const Json log = log_of(folder.path());
  CHECK(log[0]["explained_variance"] < log[log.size() - 1]["explained_variance"]);
  CHECK(log[0]["step"] == 7);
  CHECK(log[log.size() - 1]["step"] == 600);
  CHECK(fs::exists(folder / "training.html"));
}

TEST_CASE(
    "[sae.train] stopped, killed and resumed runs end with the bits of one that was not, whatever "
    "the architecture") {
  for (const Architecture architecture : vyx::test::all_architectures()) {
    INFO(name_of(architecture));
    const TrainOptions options = options_of(architecture);
    const TemporaryFolder whole, stopped, killed;
    train_in(whole.path(), options);

    CHECK_FALSE(train_in(stopped.path(), options, stop_after(13)).finished);
    CHECK_FALSE(fs::exists(stopped / "cfg.json"));
    CHECK_FALSE(train_in(stopped.path(), options, stop_after(20), ExistingRun::resume).finished);
    CHECK(train_in(stopped.path(), options, {}, ExistingRun::resume).finished);
    require_same_run(whole.path(), stopped.path());

    CHECK_THROWS_AS(train_in(killed.path(), options, die_after(3)),
                    Killed);  // before the first checkpoint
    CHECK_THROWS_AS(train_in(killed.path(), options, die_after(39), ExistingRun::resume), Killed);
    CHECK_THROWS_AS(train_in(killed.path(), options, die_after(8), ExistingRun::resume), Killed);
    CHECK(train_in(killed.path(), options, {}, ExistingRun::resume).finished);
    require_same_run(whole.path(), killed.path());
  }
}

TEST_CASE("[sae.train] resampling and normalisation off resume to the same bits too") {
  TrainOptions options = options_of(Architecture::relu);
  options.objective.sparsity = 20;  // many die
  options.resample_every = 15;
  options.autoencoder.normalization = Normalization::none;
  const TemporaryFolder whole, stopped;
  train_in(whole.path(), options);
  train_in(stopped.path(), options, stop_after(14));
  train_in(stopped.path(), options, {}, ExistingRun::resume);
  require_same_run(whole.path(), stopped.path());
}

TEST_CASE("[sae.train] the number of threads changes nothing") {
  const int before = at::get_num_threads();
  const TemporaryFolder one, two;
  for (const Architecture architecture : vyx::test::all_architectures()) {
    TrainOptions options = options_of(architecture);
    options.dead_after = 64;  // so that some are
    options.resample_every = architecture == Architecture::relu ? 20 : 0;
    at::set_num_threads(1);
    train_in(one.path(), options, {}, ExistingRun::overwrite);
    at::set_num_threads(2);
    train_in(two.path(), options, {}, ExistingRun::overwrite);
    INFO(name_of(architecture));
    require_same_run(one.path(), two.path());
  }
  at::set_num_threads(before);
}

TEST_CASE("[sae.train] another seed gives other weights") {
  const TemporaryFolder a, b;
  TrainOptions options = options_of(Architecture::topk);
  train_in(a.path(), options);
  options.seed = 6;
  train_in(b.path(), options);
  CHECK(read_text_file(a / "sae_weights.safetensors") !=
        read_text_file(b / "sae_weights.safetensors"));
}

TEST_CASE("[sae.train] resuming does not ask for batches that were used") {
  const TemporaryFolder folder;
  const TrainOptions options = options_of(Architecture::topk);
  train_in(folder.path(), options, stop_after(50));
  PlantedSource source({});
  train(source, nullptr, options, folder.path(), ExistingRun::resume, {});
  CHECK(source.asked() == 10 + 8);  // 8 to measure the finished latents on
}

TEST_CASE("[sae.train] other options and other activations are not resumed, and are named") {
  const TemporaryFolder folder;
  TrainOptions options = options_of(Architecture::topk);
  train_in(folder.path(), options, stop_after(10));
  const auto error = [&](const TrainOptions& changed, const PlantedSource::Options& data = {}) {
    return error_of([&] { train_in(folder.path(), changed, {}, ExistingRun::resume, data); });
  };
  TrainOptions changed = options;
  changed.autoencoder.k = 5;
  CHECK(contains(error(changed), "--k: found 5"));
  changed = options;
  changed.steps += 1;
  CHECK(contains(error(changed), "--steps: found 61"));
  changed = options;
  changed.seed = 9;
  CHECK(contains(error(changed), "--seed: found 9"));
  changed = options;
  changed.adam.beta1 = 0.5;  // no option of vyx-sae-train
  CHECK(contains(error(changed), "the recipe's adam-beta1: found 0.5"));
  changed = options;
  changed.autoencoder.architecture = Architecture::jump_relu;
  CHECK(contains(error(changed), "--architecture: found \"jump-relu\""));
  CHECK(contains(error(options, {.seed = 3}), "activations: seed: found 3"));
  PlantedSource source({}), target({.seed = 8});
  CHECK(contains(
      error_of([&] { train(source, &target, options, folder.path(), ExistingRun::resume, {}); }),
      "target: model"));
  changed = options;
  changed.checkpoint_every = 3;
  CHECK(error(changed).empty());
}

TEST_CASE("[sae.train] a NaN stops the run, naming the step and the last good checkpoint") {
  const TemporaryFolder folder;
  const auto error = [&](uint64_t nan_at, ExistingRun existing) {
    return error_of([&] {
      train_in(folder.path(), options_of(Architecture::topk), {}, existing, {.nan_at = nan_at});
    });
  };
  std::string message = error(25, ExistingRun::refuse);
  CHECK(contains(message, "step 25"));
  CHECK(contains(message, "step-000000020.safetensors"));
  CHECK(load_checkpoint(folder / "checkpoints")->state.step == 20);
  CHECK_FALSE(fs::exists(folder / "cfg.json"));
  message = error(2, ExistingRun::overwrite);
  CHECK(contains(message, "step 2"));
  CHECK(contains(message, "no checkpoint had been saved yet"));
}

TEST_CASE("[sae.train] a learning rate that is far too high stops as diverged") {
  const TemporaryFolder folder;
  TrainOptions options = options_of(Architecture::relu);
  options.learning_rate = 1e6;
  const std::string message = error_of([&] { train_in(folder.path(), options); });
  CHECK(contains(message, "step "));
  CHECK(contains(message, "lower --lr"));
}

TEST_CASE("[sae.train] a run that is there is neither lost nor mixed with another") {
  const TemporaryFolder folder;
  const TrainOptions options = options_of(Architecture::topk);
  train_in(folder.path(), options, stop_after(10));
  CHECK(contains(error_of([&] { train_in(folder.path(), options); }), "a run at step 10"));
  train_in(folder.path(), options, {}, ExistingRun::resume);
  CHECK(contains(error_of([&] { train_in(folder.path(), options); }), "a trained autoencoder"));
  const std::string weights = read_text_file(folder / "sae_weights.safetensors");

  CHECK(
      train_in(folder.path(), options, {}, ExistingRun::resume).finished);  // nothing is left to do
  CHECK(read_text_file(folder / "sae_weights.safetensors") == weights);

  TrainOptions other = options;
  other.seed = 6;
  CHECK_FALSE(train_in(folder.path(), other, stop_after(1), ExistingRun::overwrite).finished);
  CHECK_FALSE(fs::exists(folder / "cfg.json"));
  CHECK(log_of(folder.path()).empty());
}

TEST_CASE("[sae.train] one process at a time") {
  const TemporaryFolder folder;
  const FolderLock lock(folder.path());
  CHECK(contains(error_of([&] { train_in(folder.path(), options_of(Architecture::topk)); }),
                 "another process"));
}

TEST_CASE(
    "[sae.train] a torn checkpoint is passed over, said so, and the run ends with the same bits") {
  const TemporaryFolder whole, torn;
  const TrainOptions options = options_of(Architecture::topk);
  train_in(whole.path(), options);
  train_in(torn.path(), options, stop_after(30));
  write_file(torn / "checkpoints/step-000000030.safetensors", "torn");
  std::vector<std::string> notes;
  uint64_t started = 0;
  train_in(torn.path(), options,
           {.on_start = [&](uint64_t step, uint64_t) { started = step; },
            .on_note = [&](const std::string& note) { notes.push_back(note); }},
           ExistingRun::resume);
  CHECK(started == 20);
  REQUIRE(notes.size() == 1);
  CHECK(contains(notes[0], "step-000000030"));
  CHECK(contains(notes[0], "step-000000020"));
  require_same_run(whole.path(), torn.path());
}

TEST_CASE("[sae.train] a transcoder learns another source's rows") {
  PlantedSource source({}),
      target({.width = 8});  // other directions, so that there is little to learn but the mean
  const TemporaryFolder folder;
  TrainOptions options = options_of(Architecture::topk);
  options.autoencoder.subtract_decoder_bias = false;
  const TrainResult result =
      train(source, &target, options, folder.path(), ExistingRun::refuse, {});
  CHECK(result.finished);
  CHECK(read_text_file(folder / "cfg.json").find("\"d_out\": 8") != std::string::npos);
}
