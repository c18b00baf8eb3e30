// Reading an activation store: memory-mapped, so that a store of any size takes no memory of its
// own.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "core/formats/safetensors.h"
#include "sae/store/store_manifest.h"

namespace vyx::sae {

class ActivationStore {
 public:
  /// Throws Error naming the file for a manifest that does not hold, for a missing shard, and for
  /// one whose size or tensors are not those of the manifest. With `verify` each shard's SHA-256 is
  /// compared too, which reads all of it.
  explicit ActivationStore(const std::filesystem::path& folder, bool verify = true);

  const std::filesystem::path& folder() const { return folder_; }
  const StoreManifest& manifest() const { return manifest_; }
  uint64_t rows() const { return manifest_.rows; }
  /// SHA-256 of the manifest, which holds those of the shards.
  const std::string& digest() const { return digest_; }

  /// Indices of the sites with these names; all when there are none. Throws Error listing those
  /// that the store has.
  std::vector<size_t> find(std::span<const std::string> sites) const;
  /// The names of the sites that the patterns choose, in the order of the patterns; each once.
  /// Throws Error as find(), for a pattern without a site.
  std::vector<std::string> match(std::span<const std::string> patterns) const;
  int64_t width(std::span<const size_t> sites) const;  // of these together

  /// Rows by number (0 … rows − 1), in the order given: float32 [rows, width of the sites side by
  /// side]. In parallel unless told not to. Throws Error for a value that is NaN or infinite,
  /// naming shard and row. Thread-safe.
  at::Tensor gather(std::span<const uint64_t> rows, std::span<const size_t> sites,
                    bool parallel = true) const;

 private:
  struct Shard {
    SafetensorsFile file;
    uint64_t first_row = 0;
    std::vector<const std::byte*> data;  // of each site
  };

  Shard open(size_t index, uint64_t first_row, bool verify) const;
  void gather_row(uint64_t row, std::span<const size_t> sites, float* out) const;

  std::filesystem::path folder_;
  StoreManifest manifest_;
  std::string digest_;
  std::vector<Shard> shards_;
};

}  // namespace vyx::sae
