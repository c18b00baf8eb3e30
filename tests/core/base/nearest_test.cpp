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

TEST_CASE("[core.nearest] did_you_mean names the nearest, or says that there is none") {
  const std::vector<std::string> names{"--sites", "--tokens"};
  CHECK(did_you_mean("--site", names) == "; did you mean --sites?");
  CHECK(did_you_mean("--site", {}) == "; there are none");
}

}  // namespace
}  // namespace vyx
