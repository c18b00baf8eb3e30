#include "apps/compare/road.h"

#include <ATen/Functions.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "apps/compare/statistics.h"
#include "core/base/error.h"
#include "steering/directions/direction.h"

namespace vyx::compare {
namespace {

constexpr double kSmallKl =
    1e-3;  // nats: below it, an effect per root nat would be one of rounding
constexpr double kLeastShare = 1e-3;  // of the best latent's score: below it, a rise is rounding
constexpr double kNearFactor = 2;     // within this factor of the level the power law is trusted
constexpr double kLongestStep = 8;    // a factor of the dose

/// The dose at the level by KL ∝ dose², from one that was measured.
double along_power_law(const DosePoint& point, double level) {
  return point.dose *
         std::clamp(std::sqrt(level / std::max(point.kl, 1e-12)), 1 / kLongestStep, kLongestStep);
}

bool is_near(double kl, double level) {
  return kl <= kNearFactor * level && level <= kNearFactor * kl;
}

}  // namespace

std::vector<Method> find_directions(const RoadInput& input, const std::vector<std::string>& named,
                                    const std::function<void(const std::string&)>& on_degenerate) {
  std::vector<Method> methods;
  for (const steering::Method& row : steering::methods()) {
    if (!named.empty() && std::find(named.begin(), named.end(), row.name) == named.end()) continue;
    try {
      const at::Tensor vector = steering::find_vector({.pairs = input.extraction,
                                                       .selection = input.selection,
                                                       .median_norm = input.median_norm},
                                                      row, row.name);  // [d]
      methods.push_back(direction_method(std::string(row.name), vector, input.median_norm));
      methods.back().finds_line = row.sign_is_voted;
    } catch (const Error& error) {
      if (on_degenerate) on_degenerate(error.what());
    }
  }
  return methods;
}

Proposals propose(const RoadInput& input, const RoadOptions& options) {
  Proposals proposals{.directions = input.directions, .latents = {}};
  if (input.latents)
    proposals.latents = propose_latents(*input.latents, input.selection.positive,
                                        input.selection.negative, input.slope, options.candidates);
  return proposals;
}

std::vector<Method> choose(Measure& measure, const RoadInput& input, const Proposals& proposals,
                           const RoadOptions& options) {
  std::vector<Method> methods = proposals.directions;
  if (!input.latents) return methods;
  const auto& [sae, largest, mean] = *input.latents;
  const at::Tensor shifts = first_order_shifts(*input.latents, input.slope);  // [latents]
  std::vector<int64_t> rising;
  std::vector<Edit> edits;
  for (const int64_t latent : proposals.latents) {
    if (!(shifts[latent].item<double>() > 0)) continue;
    rising.push_back(latent);
    edits.push_back(latent_method("candidate", sae, {latent}, largest).edit(1));
  }
  if (rising.empty()) return methods;
  const std::vector<double> kl = measure.sample_kl_p95(edits);
  struct Candidate {
    int64_t latent;
    double kl, score;
  };
  std::vector<Candidate> ranked;
  for (size_t i = 0; i < rising.size(); ++i)
    ranked.push_back({rising[i], kl[i],
                      shifts[rising[i]].item<double>() / std::sqrt(std::max(kl[i], kSmallKl))});
  std::stable_sort(ranked.begin(), ranked.end(),
                   [](const Candidate& a, const Candidate& b) { return a.score > b.score; });
  methods.push_back(latent_method(kSingleLatent, sae, {ranked.front().latent}, largest));
  methods.back().known = DosePoint{.dose = 1, .kl = ranked.front().kl};
  std::vector<int64_t> best;
  for (const Candidate& candidate : ranked)
    if (static_cast<int64_t>(best.size()) < options.k &&
        candidate.score > kLeastShare * ranked.front().score)
      best.push_back(candidate.latent);
  methods.push_back(latent_method(kBestLatents, sae, std::move(best), largest));
  return methods;
}

std::vector<double> sample_doses(Measure& measure, const std::vector<Method>& methods,
                                 const RoadOptions& options) {
  std::vector<DosePoint> points(methods.size());
  std::vector<size_t> open(methods.size());
  for (size_t i = 0; i < methods.size(); ++i) open[i] = i;
  for (int evaluation = 0; evaluation < 2; ++evaluation) {
    std::vector<size_t> measured;
    std::vector<Edit> edits;
    for (const size_t i : open) {
      if (evaluation == 0 && methods[i].known) {
        points[i] = *methods[i].known;
        continue;
      }
      points[i].dose = evaluation == 0 ? options.first_doses.at(methods[i].family)
                                       : along_power_law(points[i], options.level);
      measured.push_back(i);
      edits.push_back(methods[i].edit(points[i].dose));
    }
    const std::vector<double> kl = measure.sample_kl_p95(edits);
    for (size_t i = 0; i < measured.size(); ++i) points[measured[i]].kl = kl[i];
    std::erase_if(open, [&](size_t i) { return is_near(points[i].kl, options.level); });
  }
  std::vector<double> doses;
  for (const DosePoint& point : points) doses.push_back(along_power_law(point, options.level));
  return doses;
}

std::vector<Arrival> walk(Measure& measure, const RoadInput& input, const RoadOptions& options) {
  const std::vector<Method> methods = choose(measure, input, propose(input, options), options);
  const std::vector<double> doses = sample_doses(measure, methods, options);
  std::vector<Edit> edits;
  for (size_t i = 0; i < methods.size(); ++i) edits.push_back(methods[i].edit(doses[i]));
  const std::vector<std::vector<double>> shifts = measure.shifts(edits, Split::test);
  std::vector<Arrival> arrivals;
  for (size_t i = 0; i < methods.size(); ++i)
    arrivals.push_back({methods[i].name, mean(shifts[i])});
  return arrivals;
}

}  // namespace vyx::compare
