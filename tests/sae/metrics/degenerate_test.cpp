#include "sae/metrics/degenerate.h"

#include <cmath>

#include "tests/torch_support.h"

using namespace vyx::sae;
using vyx::test::contains;

namespace {

std::string line_of(const std::vector<std::string>& lines) {
  REQUIRE(lines.size() == 1);
  return lines.front();
}

}  // namespace

TEST_CASE("[sae.degenerate] a good result has no line, each fault has its own") {
  const Quality good{.explained_variance = 0.8, .l0 = 32, .dead_fraction = 0.1};
  CHECK(degenerate(good).empty());
  Quality bad = good;
  bad.explained_variance = -8.5;
  CHECK(contains(line_of(degenerate(bad)), "explained variance -8.500 is below 0"));
  for (const double none : {double(NAN), -double(INFINITY)}) {
    bad.explained_variance = none;
    CHECK(contains(line_of(degenerate(bad)), "have no variance"));
  }
  bad = good;
  bad.dead_fraction = 0.99;
  CHECK(contains(line_of(degenerate(bad)), "99 % of the latents are dead"));
  bad = good;
  bad.l0 = 0;
  CHECK(contains(line_of(degenerate(bad)), "no latent fires"));
  bad = good;
  bad.wanted_l0 = 32 / 1.04;
  CHECK(degenerate(bad).empty());
  bad.wanted_l0 = 4;
  bad.wanted_by = "--l0-target";
  CHECK(line_of(degenerate(bad)) == "L0 is 32.00 where --l0-target asked for 4: +700 %");
}

TEST_CASE(
    "[sae.degenerate] on other rows: what was wanted is in the config, and few rows kill no "
    "latent") {
  Metrics metrics{.tokens = 1000, .explained_variance = 0.8, .l0 = 10, .dead_fraction = 0.9};
  AutoencoderConfig config{.architecture = Architecture::jump_relu, .latents = 100'000};
  CHECK(degenerate(metrics, config).empty());
  config.latents = 1000;
  CHECK(contains(line_of(degenerate(metrics, config)), "dead"));
  metrics.dead_fraction = 0;
  config.metadata["training"] = {{"l0-target", 9}};
  CHECK(degenerate(metrics, config).empty());
  config.metadata["training"] = {{"l0-target", 5}};
  CHECK(contains(line_of(degenerate(metrics, config)), "l0-target asked for 5"));
  AutoencoderConfig ranked{.architecture = Architecture::batch_topk, .latents = 1000, .k = 40};
  CHECK(contains(line_of(degenerate(metrics, ranked)), "L0 is 10.00 where k asked for 40"));
}

TEST_CASE("[sae.degenerate] a reconstruction that serves less than the mean, or serves nowhere") {
  Recovered recovered{.replaced = 5, .reconstruction = {3.5, 0.1}, .mean = {4, 1}};
  CHECK(degenerate(recovered).empty());
  recovered.reconstruction.cross_entropy = 4.5;
  CHECK(contains(line_of(degenerate(recovered)), "less than a constant"));
  recovered = {.reconstruction = {3.5, 0.1}, .mean = {4, 1}};
  CHECK(contains(line_of(degenerate(recovered)), "no row of the text was replaced"));
}
