// Latents of many rows (tokens, prompts), kept as what they are: few. 65,536 latents of a thousand
// prompts are 268 MB dense.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "sae/metrics/separation.h"

namespace vyx::sae {

class LatentRows {
 public:
  explicit LatentRows(int64_t latents) : latents_(latents) {}

  /// Appends rows f [rows, latents] float32. Throws Error for another width.
  void add(const at::Tensor& f);

  int64_t rows() const { return rows_; }
  int64_t latents() const { return latents_; }
  /// Latents first … last − 1 of all rows: [rows, last − first] float32.
  at::Tensor dense(int64_t first, int64_t last) const;

 private:
  int64_t latents_, rows_ = 0;
  std::vector<at::Tensor> row_, latent_,
      value_;  // of the latents that are not 0, an entry an add() [entries]
};

/// As separation() of the dense latents, some thousand latents at a time.
Separation separation(const LatentRows& positive, const LatentRows& negative);

}  // namespace vyx::sae
