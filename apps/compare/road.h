// The road from data to an effect: propose → choose → dose → measure. The comparison's methods and
// every draw of a null take the same steps; a null is the road over an input of which one part was
// replaced (nulls.h).
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "apps/compare/latents.h"
#include "apps/compare/measure.h"
#include "apps/compare/method.h"

namespace vyx::compare {

/// What methods are made of. Which side of a pair is the positive one is its label.
struct RoadInput {
  ContrastActivations extraction, selection;
  std::vector<Method> directions;  // found from the pairs (find_directions), or in their place
  std::optional<Latents> latents;  // nullopt: no method of latents
  at::Tensor slope;                // of the selection's preference [d] float64
  double median_norm = 1;          // the unit of directions' doses
};

struct RoadOptions {
  int64_t k = 8, candidates = 12;  // as CompareOptions
  double level = 0.3;              // nats
  // Where doses are looked for first: of directions and of latents.
  std::map<Family, double> first_doses = {{Family::direction, first_dose(Family::direction)},
                                          {Family::latent, first_dose(Family::latent)}};
};

/// The directions of all methods of steering/directions/methods.h, or of those that are `named`.
/// A method that has settings chooses them on the selection pairs. One that is degenerate on these
/// pairs is left out, and `on_degenerate` is told why.
std::vector<Method> find_directions(
    const RoadInput& input, const std::vector<std::string>& named = {},
    const std::function<void(const std::string&)>& on_degenerate = {});

struct Proposals {
  std::vector<Method> directions;
  std::vector<int64_t> latents;  // candidates
};
Proposals propose(const RoadInput& input, const RoadOptions& options);

/// The directions as they are; of the candidates the best one and the best k, by their effect per
/// root nat: to first order on the selection split, over what KL they cost on the sample, both when
/// set to their largest activation. Latents that would move the preference down are none of them.
std::vector<Method> choose(Measure& measure, const RoadInput& input, const Proposals& proposals,
                           const RoadOptions& options);

/// Doses for the level on the sample of the neutral text [methods]: two evaluations at most, along
/// KL ∝ dose².
std::vector<double> sample_doses(Measure& measure, const std::vector<Method>& methods,
                                 const RoadOptions& options);

struct Arrival {
  std::string method;
  double effect = 0;  // on the test, nats per token
};
/// The whole road, with doses from the sample.
std::vector<Arrival> walk(Measure& measure, const RoadInput& input, const RoadOptions& options);

}  // namespace vyx::compare
