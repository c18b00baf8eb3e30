// The state of training on disk, so that a run can be killed at any moment and go on to the same
// weights, bit for bit.
//
// A folder holds `step-000000500.safetensors` files (weights, moments, counters; the rest as JSON
// in their metadata) and LATEST, the list of those that are published, newest first, with their
// SHA-256. A checkpoint is written and synced whole, then LATEST is replaced, then older ones
// beyond two are removed: whenever the process dies, LATEST names only whole checkpoints.
#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/base/json_guard.h"
#include "core/io/files.h"
#include "sae/training/trainer.h"

namespace vyx::sae {

/// A published checkpoint, as LATEST lists it.
struct CheckpointEntry {
  uint64_t step = 0;
  std::string file;  // its name in the folder
  uint64_t bytes = 0;
  std::string sha256;
};

/// Makes `folder` and an empty LATEST in it: from here on, a checkpoint that is not listed was
/// never published. Removes what is there.
void start_checkpoints(const std::filesystem::path& folder);

/// The published ones, newest first; nullopt when no run was started here. Throws Error for a
/// LATEST that cannot be read, and for checkpoints without one: going on from step 0 would throw a
/// run away.
std::optional<std::vector<CheckpointEntry>> list_checkpoints(const std::filesystem::path& folder);

/// Saves and publishes. `run` is kept beside the state: what must be the same on resuming. Throws
/// Diverged for a state that is not finite, Error when the disk has not 1.1 times the room; what
/// was published stays.
void save_checkpoint(const std::filesystem::path& folder, const TrainState& state, const Json& run,
                     FileSystem& fs = FileSystem::real());

struct LoadedCheckpoint {
  TrainState state;  // sae.config: only its scales
  Json run;
  std::filesystem::path file;
  std::vector<std::string> skipped;  // newer ones, a line each: why it was not used
};

/// The newest checkpoint that verifies; nullopt when none has been published. Throws Error when
/// some are and none verifies. The caller holds the folder's lock: files that LATEST does not list
/// are removed.
std::optional<LoadedCheckpoint> load_checkpoint(const std::filesystem::path& folder);

}  // namespace vyx::sae
