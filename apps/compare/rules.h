// The verdict, line by line, and what the numbers do not show.
#pragma once
#include <vector>

#include "apps/compare/compare.h"

namespace vyx::compare {

// What the rules allow, and the page shows.
inline constexpr double kLevelOfSignificance = 0.01;
inline constexpr double kAntiSteerable = 0.2;  // share of items that steer the wrong way
inline constexpr double kLossRise = 0.05;      // on neutral text, nats per token
inline constexpr double kKeptElsewhere = 0.5;  // half of the effect, on another template
inline constexpr double kAccuracyLoss = 0.02;  // share of a choice benchmark's items

/// For each method but the controls: the interval of the effect is above 0; p is small against
/// each null that is valid for it; few items steer the wrong way; the loss on neutral
/// text hardly rises; it beats the mean direction at equal KL, and every foreign concept's vector;
/// it keeps its effect on another template, and accuracy on a choice benchmark. What was not
/// measured, or cannot be shown with so few items, says so.
std::vector<PassLine> pass_rules(const Comparison& comparison);

void add_notes(const CompareOptions& options, Comparison& comparison);

/// The founding question, answered from the numbers alone: sentences.
std::vector<std::string> answer(const Comparison& comparison);

/// A method's row of the comparison by name; nullptr: it is not there.
const MethodResult* find_method(const Comparison& comparison, std::string_view name);
/// A method's numbers at the headline level, which is one of its levels.
const Level& headline_of(const MethodResult& method, double headline);

}  // namespace vyx::compare
