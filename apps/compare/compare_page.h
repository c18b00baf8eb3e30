// The comparison as one page that stands alone (core/report/page.h).
#pragma once
#include <string>

#include "apps/compare/compare.h"

namespace vyx::compare {

std::string compare_page(const Comparison& comparison);

}  // namespace vyx::compare
