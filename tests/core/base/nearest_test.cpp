#include "core/base/nearest.h"

#include "tests/test_support.h"

namespace vyx {
namespace {

TEST_CASE("[core.nearest] nearest ranks by edit distance, ties by order") {
  const std::vector<std::string> names{"model.layers.0", "model.layers.1", "model.norm", "lm_head"};
  CHECK(nearest("model.layer.1", names, 1) == std::vector<std::string>{"model.layers.1"});
  CHECK(nearest("model.layers.x", names, 2) ==
        std::vector<std::string>{"model.layers.0", "model.layers.1"});
  CHECK(nearest("x", names, 9).size() == 4);
  CHECK(nearest("x", {}).empty());
}

}  // namespace
}  // namespace vyx
