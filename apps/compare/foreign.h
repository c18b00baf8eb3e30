// Vectors of foreign concepts, as controls: would another concept's vector, made in the same way,
// move this concept as far?
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "apps/compare/road.h"

namespace vyx::compare {

/// "mean of NAME" of each of the subject's other concepts: a direction with the sign that moves
/// this concept up on the selection split, each sign at a dose of its own: a foreign concept has no
/// sign here. A degenerate one is left out, and `on_degenerate` is told why.
std::vector<Method> foreign_methods(Measure& measure, double median_norm,
                                    const RoadOptions& options,
                                    const std::function<void(const std::string&)>& on_degenerate);

}  // namespace vyx::compare
