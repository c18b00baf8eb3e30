// Training batches from a model that is harvested meanwhile, without a store.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "models/activations/harvest.h"
#include "sae/store/activation_source.h"

namespace vyx::sae {

struct StreamingSourceOptions {
  int64_t batch = 4096;  // rows
  // Forwards whose rows are shuffled together: memory is their rows in float32.
  int64_t refill_forwards = 32;
  int64_t refill_batches = 16;  // batches that are taken of them
  uint64_t seed = 0;
};

/// The input's forwards come in groups of `refill_forwards`; batch t is of group t /
/// refill_batches, whose rows are shuffled by a seeded permutation. When the input ends it begins
/// anew. So a batch is a function of the seed and of its step: a run that resumes passes over the
/// groups before, which costs their tokens but no forward, and harvests one group again. A group
/// has somewhat fewer rows than its forwards have tokens (special tokens and attention sinks are
/// left out); where its batches ask for more rows than it has, they take some of its first ones
/// again, and where they ask for less the rest is not used.
class StreamingSource : public ActivationSource {
 public:
  /// `harvest` must be at its beginning. Calibrates it. Throws Error for sizes below 1.
  StreamingSource(std::unique_ptr<models::Harvest> harvest, const StreamingSourceOptions& options);

  at::Tensor batch(uint64_t step) override;
  int64_t width() const override { return width_; }
  uint64_t rows() const override;  // of the batches in a pass; counted by passing over the input,
                                   // which costs its tokens
  std::vector<SiteNorms> norms() const override { return norms_; }  // of the first rows
  Json provenance() const override;

 private:
  void pass(uint64_t forwards);
  std::vector<at::Tensor> next();
  void fill(uint64_t group);

  std::unique_ptr<models::Harvest> harvest_;
  StreamingSourceOptions options_;
  int64_t width_ = 0;
  std::vector<SiteNorms> norms_;
  std::optional<uint64_t> group_;          // in the buffer
  uint64_t forwards_ = 0;                  // that the harvest is behind
  at::Tensor buffer_;                      // [rows, d] float32
  mutable uint64_t forwards_in_pass_ = 0;  // 0: not counted yet
};

}  // namespace vyx::sae
