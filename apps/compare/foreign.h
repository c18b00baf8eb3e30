// Vectors of foreign concepts, as controls: does any concept's vector of this make move this
// concept as far?
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "apps/compare/measure.h"

namespace vyx::compare {

/// "mean of NAME" of each of the subject's other concepts: a direction with the sign that moves the
/// concept up at the headline dose on the selection split, as a random direction's is chosen, since
/// a foreign concept has none here. One that is degenerate is left out and `on_degenerate` is told
/// why.
std::vector<Method> foreign_methods(Measure& measure, double median_norm, double headline,
                                    const std::function<void(const std::string&)>& on_degenerate);

}  // namespace vyx::compare
