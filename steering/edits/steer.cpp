#include "steering/edits/steer.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/base/error.h"
#include "core/base/nearest.h"
#include "core/base/text.h"
#include "core/edits/attached_edit.h"

namespace vyx::steering {
namespace {

/// What the vectors add at one site.
struct SitePlan {
  Site site;
  std::vector<Term> terms;
  std::vector<int64_t> vectors;  // which vector each term comes from
};

std::string name_of_file(const ControlVector& vector) {
  return vector.source.empty() ? "control vector" : vector.source;
}

std::string short_digest(std::string_view sha256) {
  return fmt::format("sha256 {}…", sha256.substr(0, 12));
}

void require_same_model(const models::LanguageModelConfig& model, const ControlVector& vector) {
  const Provenance& made = vector.provenance;
  if (!made.model_sha256.empty() && !model.provenance.sha256.empty()) {
    if (made.model_sha256 == model.provenance.sha256) return;
    fail(
        "{}: was made with model {} ({}), this is {} ({}); extract it again, or pass "
        "--allow-other-model",
        name_of_file(vector), quote(made.model_name), short_digest(made.model_sha256),
        quote(model.provenance.name), short_digest(model.provenance.sha256));
  }
  if (!made.model_hint.empty() && made.model_hint != model.architecture) {
    fail(
        "{}: was made for a model of architecture {}, {} is {}; extract it again, or pass "
        "--allow-other-model",
        name_of_file(vector), quote(made.model_hint), quote(model.provenance.name),
        quote(model.architecture));
  }
}

void require_site(models::LanguageModel& model, const Site& site, const ControlVector& vector) {
  const std::vector<std::string>& sites = model.module().sites();
  const std::string name = site.name();
  if (std::find(sites.begin(), sites.end(), name) == sites.end()) {
    fail("{}: is for {}, which the model has not; the nearest are {}", name_of_file(vector), name,
         fmt::join(nearest(name, sites), ", "));
  }
  // The width of other sites shows when they run: an attached edit checks it.
  const models::LanguageModelConfig& config = model.config();
  for (int64_t block = 0; block < config.spec.layers(); ++block) {
    if (site == model.block_output(block) && vector.width() != config.spec.d_model) {
      fail("{}: has width {}, {} has {}; it was made with another model, extract it again",
           name_of_file(vector), vector.width(), quote(config.provenance.name),
           config.spec.d_model);
    }
  }
}

std::vector<SiteDirection> choose(const WeightedVector& weighted) {
  const std::vector<SiteDirection>& all = weighted.vector.directions;
  if (all.empty()) fail("{}: holds no direction; extract it again", name_of_file(weighted.vector));
  if (weighted.sites.empty()) return all;
  std::vector<Site> sites;
  for (const SiteDirection& each : all) sites.push_back(each.site);
  const SitePattern pattern(weighted.sites);
  (void)pattern.choose(sites, name_of_file(weighted.vector));  // each alternative must choose one
  std::vector<SiteDirection> chosen;
  for (const SiteDirection& each : all)
    if (pattern.matches(each.site)) chosen.push_back(each);
  return chosen;
}

std::vector<SitePlan> plan(models::LanguageModel& model, std::span<const WeightedVector> vectors,
                           const SteerOptions& options) {
  std::vector<SitePlan> plans;
  for (size_t index = 0; index < vectors.size(); ++index) {
    const WeightedVector& weighted = vectors[index];
    if (!std::isfinite(weighted.coefficient)) {
      fail("{}: its coefficient is {}, expected a number", name_of_file(weighted.vector),
           weighted.coefficient);
    }
    if (!options.allow_other_model) require_same_model(model.config(), weighted.vector);
    for (const auto& [site, direction] : choose(weighted)) {
      require_site(model, site, weighted.vector);
      const auto same = [&wanted = site](const SitePlan& each) { return each.site == wanted; };
      auto found = std::find_if(plans.begin(), plans.end(), same);
      if (found == plans.end()) found = plans.insert(plans.end(), SitePlan{site, {}, {}});
      found->terms.push_back(Term::add(direction.vector.to(model.device()) * weighted.coefficient));
      found->vectors.push_back(static_cast<int64_t>(index));
    }
  }
  return plans;
}

}  // namespace

std::vector<SiteEdit> make_edits(models::LanguageModel& model,
                                 std::span<const WeightedVector> vectors,
                                 const SteerOptions& options) {
  std::vector<SiteEdit> edits;
  for (SitePlan& each : plan(model, vectors, options))
    edits.push_back({each.site, Edit(std::move(each.terms))});
  return edits;
}

Steering steer(models::LanguageModel& model, std::span<const WeightedVector> vectors,
               const SteerOptions& options) {
  Steering steering;
  steering.vectors_ = static_cast<int64_t>(vectors.size());
  for (SitePlan& each : plan(model, vectors, options)) {
    steering.edits_.push_back(attach(model.module(), each.site, Edit(std::move(each.terms)),
                                     {.positions = options.positions}));
    steering.columns_.push_back(at::tensor(each.vectors, at::kLong));
  }
  return steering;
}

void Steering::set_scale(double scale) {
  set_scale(at::scalar_tensor(scale, at::kDouble));
}

void Steering::set_scale(const at::Tensor& scales) {
  if (scales.dim() > 2 || (scales.dim() == 2 && scales.size(1) != vectors_)) {
    fail("the scales have shape {}, expected [], [batch] or [batch, {} vectors]",
         fmt::join(scales.sizes(), " × "), vectors_);
  }
  for (size_t i = 0; i < edits_.size(); ++i) {
    edits_[i].set_coefficients(
        scales.dim() == 2 ? scales.index_select(1, columns_[i].to(scales.device())) : scales);
  }
}

void Steering::require_fired() const {
  for (const AttachedEdit& edit : edits_) edit.require_fired();
}

uint64_t Steering::firings() const {
  uint64_t total = 0;
  for (const AttachedEdit& edit : edits_) total += edit.firings();
  return total;
}

}  // namespace vyx::steering
