// What a comparison will cost, before it begins.
#pragma once
#include <cstdint>

#include "apps/compare/compare.h"

namespace vyx::compare {

/// Tokens that a comparison will run through the model, as estimated; `nulls`: those of the null
/// draws, when none of them stops early.
struct Plan {
  uint64_t methods = 0, nulls = 0;
};
Plan plan(const Subject& subject, const CompareOptions& options);

}  // namespace vyx::compare
