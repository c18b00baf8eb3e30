#include "tests/torch_support.h"

#include "sae/latents/ranking.h"

#include <limits>

using namespace vyx::sae;

TEST_CASE(
    "[sae.latents.ranking] falling, ties by the second score and then by number, NaN left out") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const at::Tensor scores = at::tensor({1.0, 3.0, nan, 3.0, 1.0}, at::kDouble);
  CHECK(descending(scores) == std::vector<int64_t>{1, 3, 0, 4});
  CHECK(descending(scores, at::tensor({0.0, 1.0, 9.0, 2.0, 5.0}, at::kDouble)) ==
        std::vector<int64_t>{3, 1, 4, 0});
  CHECK(places_in({1, 3, 0, 4}, 5) == std::vector<int64_t>{3, 1, 0, 2, 4});
}
