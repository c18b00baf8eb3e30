// Where training gets its batches: a store on disk, or a model that is harvested meanwhile.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/json_guard.h"

namespace vyx::sae {

/// Of a site's rows over the data.
struct SiteNorms {
  std::string site;
  int64_t width = 0;
  double mean_norm = 0;  // E‖x‖
  double center = 0;     // ‖E x‖
  double deviation = 0;  // (E‖x − E x‖²)^½
};
/// Of rows [rows, width].
SiteNorms norms_of(const at::Tensor& rows, const std::string& site);

class ActivationSource {
 public:
  virtual ~ActivationSource() = default;

  /// Batch `step` [batch, d]: a function of the seed and of `step` alone, so that a run can resume
  /// anywhere. d is the width of all sites side by side. Steps are asked for in rising order but
  /// for the first. Throws Error for rows that are not finite, naming file and row.
  virtual at::Tensor batch(uint64_t step) = 0;

  virtual int64_t width() const = 0;                 // d
  virtual uint64_t rows() const = 0;                 // in one pass over the data
  virtual std::vector<SiteNorms> norms() const = 0;  // one per site, in the order of the columns
  /// What the batches are made of (model, sites, text, digests): kept in the autoencoder's
  /// metadata, and compared when a run resumes.
  virtual Json provenance() const = 0;
};

}  // namespace vyx::sae
