// Control vectors at work in a language model.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "core/edits/attached_edit.h"
#include "core/edits/bake.h"
#include "core/edits/edit.h"
#include "models/language_model/language_model.h"
#include "steering/directions/control_vector.h"

namespace vyx::steering {

struct WeightedVector {
  ControlVector vector;
  double coefficient = 1;
  std::string sites;  // pattern: only the vector's sites that it chooses; "": all
};

struct SteerOptions {
  Positions positions = Positions::all;
  bool allow_other_model = false;  // take a vector that says it was made with another model
};

/// The edits that the vectors make, one per site, with one term per vector in their order: h' = h +
/// Σ_k c_k·v_k. Throws Error for a vector of another width or (by its SHA-256, or its model hint)
/// another model, a site that the model lacks, a pattern that chooses none of a vector's sites.
std::vector<SiteEdit> make_edits(models::LanguageModel& model,
                                 std::span<const WeightedVector> vectors,
                                 const SteerOptions& options = {});

/// Steers while it lives. Move-only.
class [[nodiscard]] Steering {
 public:
  /// Scales the vectors' coefficients: one factor for all [], or one per batch row [batch], or
  /// one per row and vector [batch, vectors], a vector's column being its place in the list given
  /// to steer(). A factor 0 for all gives the unsteered model, bit for bit.
  void set_scale(double scale);
  void set_scale(const at::Tensor& scales);
  /// Throws Error naming a site whose edit never fired.
  void require_fired() const;
  uint64_t firings() const;
  size_t sites() const { return edits_.size(); }

 private:
  friend Steering steer(models::LanguageModel&, std::span<const WeightedVector>,
                        const SteerOptions&);
  std::vector<AttachedEdit> edits_;
  std::vector<at::Tensor> columns_;  // per edit: the vectors that its terms come from [terms] int64
  int64_t vectors_ = 0;
};

Steering steer(models::LanguageModel& model, std::span<const WeightedVector> vectors,
               const SteerOptions& options = {});

}  // namespace vyx::steering
