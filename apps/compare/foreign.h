// Vectors of foreign concepts, as controls: would another concept's vector, made in the same way,
// move this concept as far?
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "apps/compare/measure.h"

namespace vyx::compare {

/// "mean of NAME" of each of the subject's other concepts: a direction with the sign that moves
/// this concept up at the headline dose on the selection split: a foreign concept has no sign of
/// its own here, as a random direction has none. A degenerate one is left out, and `on_degenerate`
/// is told why.
std::vector<Method> foreign_methods(Measure& measure, double median_norm, double headline,
                                    const std::function<void(const std::string&)>& on_degenerate);

}  // namespace vyx::compare
