// What a model is steered with, by control vectors and by latents, as drivers are told: read before
// anything is attached, so that the model can be measured as it is.
#pragma once
#include <optional>
#include <vector>

#include "apps/options/latent_options.h"
#include "apps/options/vector_options.h"
#include "core/edits/attached_edit.h"

namespace vyx::apps {

/// At work while it lives.
class [[nodiscard]] AttachedInterventions {
 public:
  /// Multiplies the vectors' coefficients and what the latents add.
  void set_scale(double scale);
  void require_fired() const;  // throws Error naming a site whose edit never fired

 private:
  friend struct Interventions;
  std::optional<steering::Steering> vectors_;
  std::optional<AttachedEdit> latents_;
};

struct Interventions {
  std::vector<steering::WeightedVector> vectors;
  std::optional<LatentIntervention> latents;
  steering::SteerOptions options;

  bool empty() const { return vectors.empty() && !latents; }
  /// The first block at whose sites something is edited.
  int64_t first_block(models::LanguageModel& model) const;
  AttachedInterventions attach(models::LanguageModel& model) const;
};

/// Reads the files of both. Throws what they throw.
Interventions read_interventions(const VectorOptions& vectors, const LatentOptions& latents,
                                 models::LanguageModel& model, const CommonOptions& common);

}  // namespace vyx::apps
