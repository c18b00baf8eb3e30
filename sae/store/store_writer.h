// Writing an activation store, shard by shard. Killed at any moment, it goes on behind the last
// shard that was whole, and ends with the bytes of a run that was never interrupted: a shard
// appears by a rename, then state.json says so; what came after is harvested again.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/base/json_guard.h"
#include "core/io/folder_lock.h"
#include "sae/store/store_manifest.h"

namespace vyx::sae {

/// Sums over a site's rows, in float64 and in the order of the rows.
struct SiteSums {
  std::vector<double> sum;  // [width]
  double norm = 0, norm_square = 0, norm_max = 0;

  void add(const at::Tensor& rows);  // [rows, width]
};

struct StoreWriterOptions {
  Json recipe = Json::object();  // StoreManifest::recipe
  std::vector<std::string> sites;
  ElementType type = ElementType::bf16;
  uint64_t shard_bytes = 64u << 20;  // of rows, all sites together
};

class StoreWriter {
 public:
  /// Makes the folder, or opens an unfinished or finished store in it. Throws Error when another
  /// process writes there, when it holds other files, and when it was begun with another recipe
  /// (naming what differs).
  StoreWriter(const std::filesystem::path& folder, StoreWriterOptions options);

  /// The manifest, when the store was finished before.
  const std::optional<StoreManifest>& finished() const { return finished_; }
  uint64_t rows() const { return sealed_rows_ + static_cast<uint64_t>(buffered_); }
  /// What was given to the last seal(): where to go on. null: at the beginning.
  const Json& position() const { return position_; }

  /// Takes rows `begin` to `end` of `rows` ([.., width] of each site) as far as they fit into the
  /// shard; returns how many.
  int64_t append(std::span<const at::Tensor> rows, int64_t begin, int64_t end);
  bool full() const { return buffered_ > 0 && buffered_ == shard_rows_; }
  /// Writes the shard. Throws Error when a value does not fit the store's type, and when the disk
  /// is full: what was sealed stays.
  void seal(Json position);

  /// Writes what is left and the manifest, whose rows, sites (but for norm_median and
  /// norm_threshold) and shards are filled in here.
  StoreManifest finish(StoreManifest manifest);

 private:
  void open();
  void load_state();
  void write_shard();
  void save_state() const;
  std::filesystem::path state_path() const { return folder_ / "state.json"; }

  std::filesystem::path folder_;
  StoreWriterOptions options_;
  std::optional<FolderLock> lock_;
  std::optional<StoreManifest> finished_;
  Json position_;
  std::vector<StoreShard> shards_;
  std::vector<SiteSums> sums_;       // of each site, over the shards
  std::vector<at::Tensor> buffers_;  // [shard_rows_, width] of each site
  int64_t shard_rows_ = 0, buffered_ = 0;
  uint64_t sealed_rows_ = 0;
};

}  // namespace vyx::sae
