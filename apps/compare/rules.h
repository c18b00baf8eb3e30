// The verdict, line by line, and what the numbers do not show.
#pragma once
#include <vector>

#include "apps/compare/compare.h"

namespace vyx::compare {

/// For each method but the controls: the interval of the effect is above 0; p ≤ .01 against random
/// vectors and against shuffled labels; at most 20 % of items steer the wrong way; the loss on
/// neutral text rises by at most .05 nat a token; it beats the mean direction at equal KL, and
/// every foreign concept's vector; it keeps half of its effect on another template, and accuracy on
/// a choice benchmark within 2 points. What was not measured, or cannot be shown with so few items,
/// says so.
std::vector<PassLine> pass_rules(const Comparison& comparison);

void add_notes(const CompareOptions& options, Comparison& comparison);

/// The founding question, answered from the numbers alone: sentences.
std::vector<std::string> answer(const Comparison& comparison);

/// A method's row of the comparison by name; nullptr: it is not there.
const MethodResult* find_method(const Comparison& comparison, std::string_view name);
/// A method's numbers at the headline level, which is one of its levels.
const Level& headline_of(const MethodResult& method, double headline);

}  // namespace vyx::compare
