// Training batches from an activation store.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "sae/store/activation_source.h"
#include "sae/store/activation_store.h"
#include "sae/store/prefetcher.h"

namespace vyx::sae {

struct StoreSourceOptions {
  std::vector<std::string> sites;  // side by side in a batch; empty: all that the store has
  int64_t batch = 4096;            // rows
  uint64_t seed = 0;               // of the order of the rows
  size_t prefetch = 2;             // batches that are made ahead
};

/// All rows of the store in an exact shuffle: row i of pass e is Permutation(rows, f(seed, e))(i),
/// computed and not stored, so that batch t needs nothing but t. The pass that follows has another
/// order; a batch may hold the end of one and the beginning of the next.
class StoreSource : public ActivationSource {
 public:
  /// Throws Error for a site that the store has not got, and for a batch of less than one row.
  StoreSource(std::shared_ptr<const ActivationStore> store, const StoreSourceOptions& options);

  at::Tensor batch(uint64_t step) override { return prefetcher_.take(step); }
  int64_t width() const override { return store_->width(sites_); }
  uint64_t rows() const override { return store_->rows(); }
  std::vector<SiteNorms> norms() const override;  // as the manifest has them
  Json provenance() const override;

  /// The numbers of the rows in a batch, in order.
  std::vector<uint64_t> rows_of(uint64_t step) const;

 private:
  std::shared_ptr<const ActivationStore> store_;
  StoreSourceOptions options_;
  std::vector<size_t> sites_;
  Prefetcher prefetcher_;  // last: its thread uses the others
};

}  // namespace vyx::sae
