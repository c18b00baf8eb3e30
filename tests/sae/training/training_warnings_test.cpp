#include "sae/training/training_warnings.h"

#include "tests/torch_support.h"

using namespace vyx;
using vyx::test::contains;

TEST_CASE("[sae.training_warnings] a λ that costs more than no latent at all has saturated") {
  Json line{{"explained_variance", 0.75},
            {"reconstruction", 16.0},
            {"sparsity", 15.0},
            {"l0", 15.0},
            {"dead_fraction", 0.0}};
  Json options{{"sparsity", 1.0}};
  CHECK(sae::training_warnings(line, options).empty());  // 31 where the variance is 64
  line["sparsity"] = 150.0;
  options["sparsity"] = 10.0;
  const auto warnings = sae::training_warnings(line, options);
  REQUIRE(warnings.size() == 1);
  CHECK(contains(warnings[0], "--sparsity 10 has saturated"));
  CHECK(contains(warnings[0], "166, no latent at all would cost 64"));
}

TEST_CASE("[sae.training_warnings] a target of L0 that is missed, and a run without a line") {
  const Json line{{"explained_variance", 0.75},
                  {"reconstruction", 16.0},
                  {"sparsity", 15000.0},
                  {"l0", 15.9},
                  {"dead_fraction", 0.0}};
  const auto warnings = sae::training_warnings(line, {{"sparsity", 64.0}, {"l0-target", 4.0}});
  REQUIRE(warnings.size() == 1);
  CHECK(contains(warnings[0], "L0 is 15.90 where --l0-target asked for 4"));
  CHECK(sae::training_warnings(nullptr, Json::object()).empty());
}
