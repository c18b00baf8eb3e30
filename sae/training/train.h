// A run of training in a folder, from the data to the finished autoencoder; it can be killed at any
// moment and resumed.
//
// The folder holds, when the run is complete, a SAELens autoencoder (cfg.json,
// sae_weights.safetensors, sparsity.safetensors), latents.safetensors (metrics/latent_statistics.h:
// of the finished latents, on further batches of the same data), metrics.jsonl and training.html;
// checkpoints/ (checkpoint.h) is what resuming needs.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "core/base/json_guard.h"
#include "sae/store/activation_source.h"
#include "sae/training/recipe.h"

namespace vyx::sae {

/// What to do with a run that the folder holds already.
enum class ExistingRun { refuse, resume, overwrite };

struct TrainCallbacks {
  // Where the run begins: 0, 0, or a checkpoint's.
  std::function<void(uint64_t step, uint64_t tokens)> on_start;
  std::function<void(uint64_t tokens)> on_step;
  // What a user should know, in one line: damaged checkpoints that were passed over, …
  std::function<void(const std::string&)> on_note;
  std::function<bool()> should_stop;  // asked after each step; true: save and return
};

struct TrainResult {
  bool finished = false;  // false: stopped by should_stop, to be resumed
  uint64_t step = 0;      // steps done
  uint64_t tokens = 0;
  double seconds = 0;                 // of this process
  Json metrics;                       // the last line of the log; null when there is none
  std::vector<std::string> warnings;  // what is wrong with these (training_warnings.h); of a run
                                      // that is finished
  std::filesystem::path checkpoint;   // the newest
};

/// Throws Error when the folder is locked, holds a run (ExistingRun::refuse), is another run's than
/// the options and the data say (resume: the option is named), cannot be written, or when training
/// diverges (naming the step and the last good checkpoint). `target` is a second source over the
/// same rows in the same order: a transcoder's; null: x itself.
TrainResult train(ActivationSource& source, ActivationSource* target, TrainOptions options,
                  const std::filesystem::path& folder, ExistingRun existing,
                  const TrainCallbacks& callbacks);

}  // namespace vyx::sae
