// A harvest fills an activation store.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>

#include "models/activations/harvest.h"
#include "sae/store/store_manifest.h"

namespace vyx::sae {

struct HarvestToStoreOptions {
  uint64_t rows = 0;                     // to keep; fewer when the input ends before
  ElementType type = ElementType::bf16;  // of the rows: f32, bf16 or f16
  // Of rows, all sites together; what a killed harvest loses at most.
  uint64_t shard_bytes = 64u << 20;
  std::function<void(uint64_t rows)> on_rows;  // after each forward: how many more rows there are
};

struct HarvestToStoreResult {
  StoreManifest manifest;
  bool was_finished = false;  // before: nothing was done
  uint64_t resumed_rows = 0;  // that were there already
};

/// Begins a store in `folder`, or goes on with one that was begun in the same way; the bytes are
/// the same however often it was interrupted. Throws Error for 0 rows, an input without any, and as
/// StoreWriter does.
HarvestToStoreResult harvest_to_store(models::Harvest& harvest, const std::filesystem::path& folder,
                                      const HarvestToStoreOptions& options);

}  // namespace vyx::sae
