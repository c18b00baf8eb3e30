#include "core/base/json_number.h"

#include <limits>

#include "tests/test_support.h"

namespace vyx {
namespace {

TEST_CASE("[core.json_number] JSON has no NaN and no infinity") {
  CHECK(number_or_null(1.5) == 1.5);
  CHECK(number_or_null(std::numeric_limits<double>::quiet_NaN()).is_null());
  CHECK(number_or_null(-std::numeric_limits<double>::infinity()).is_null());
}

}  // namespace
}  // namespace vyx
