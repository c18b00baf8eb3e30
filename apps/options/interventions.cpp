#include "apps/options/interventions.h"

#include <ATen/Functions.h>

#include <algorithm>
#include <limits>

namespace vyx::apps {

void AttachedInterventions::set_scale(double scale) {
  if (vectors_) vectors_->set_scale(scale);
  if (latents_) latents_->set_coefficients(at::scalar_tensor(scale, at::kDouble));
}

void AttachedInterventions::require_fired() const {
  if (vectors_) vectors_->require_fired();
  if (latents_) latents_->require_fired();
}

int64_t Interventions::first_block(models::LanguageModel& model) const {
  int64_t first = std::numeric_limits<int64_t>::max();
  for (const SiteEdit& edit : steering::make_edits(model, vectors, options))
    first = std::min(first, model.block_of(edit.site));
  if (latents) first = std::min(first, model.block_of(latents->site));
  return first;
}

AttachedInterventions Interventions::attach(models::LanguageModel& model) const {
  AttachedInterventions attached;
  if (!vectors.empty()) attached.vectors_.emplace(steering::steer(model, vectors, options));
  if (latents)
    attached.latents_.emplace(vyx::attach(model.module(), latents->site, latents->edit(),
                                          {.positions = options.positions}));
  return attached;
}

Interventions read_interventions(const VectorOptions& vectors, const LatentOptions& latents,
                                 models::LanguageModel& model, const CommonOptions& common) {
  Interventions result{.vectors = vectors.read(model, common), .options = vectors.steer_options()};
  if (!latents.sae.empty()) result.latents = latents.read(model, vectors.allow_other_model);
  return result;
}

}  // namespace vyx::apps
