// Numbers that may not be finite, in JSON, which has no NaN and no infinity.
#pragma once
#include <cmath>

#include "core/base/json_guard.h"

namespace vyx {

inline Json number_or_null(double value) {
  return std::isfinite(value) ? Json(value) : Json(nullptr);
}

}  // namespace vyx
