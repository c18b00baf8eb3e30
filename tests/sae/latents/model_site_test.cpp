#include "tests/torch_support.h"

#include "sae/latents/model_site.h"

#include "tests/models/tiny_model.h"
#include "tests/sae/random_autoencoder.h"

using namespace vyx::sae;
using namespace vyx::test;

TEST_CASE("[sae.latents.model_site] an autoencoder's own site, and one line for any other") {
  auto model = tiny_model();
  Autoencoder sae = random_autoencoder(Architecture::relu, 32, 8);
  const auto error = [&](const Autoencoder& wrong) {
    return error_of([&] { site_in(model, wrong, "sae"); });
  };
  CHECK(contains(error(sae), "sae: found no site"));
  sae.config.sites = {"model.layers.1"};
  CHECK(site_in(model, sae, "sae").name() == "model.layers.1:output");

  Autoencoder wrong = sae;
  wrong.config.sites = {"model.layers.7:output"};
  CHECK(contains(error(wrong), "model.layers.7:output, which the model has not"));
  wrong = sae;
  wrong.config.sites.push_back("model.layers.2:output");
  CHECK(contains(error(wrong), "found a crosscoder"));
  wrong = sae;
  wrong.config.target_sites = {"model.layers.2:output"};
  CHECK(contains(error(wrong), "found a transcoder"));
  wrong = random_autoencoder(Architecture::relu, 48, 8);
  wrong.config.sites = sae.config.sites;
  CHECK(contains(error(wrong), "has width 48, Tiny has 32"));
  wrong = sae;
  wrong.config.metadata["activations"] = {{"model", "Other"},
                                          {"model_sha256", std::string(64, 'a')}};
  CHECK(contains(error(wrong), "was trained on model Other (sha256 aaaaaaaaaaaa…)"));
  CHECK(site_in(model, wrong, "sae", /*allow_other_model=*/true).name() == "model.layers.1:output");

  const vyx::Json recipe{{"model", "Third"}, {"model_sha256", std::string(64, 'b')}};
  CHECK(contains(error_of([&] { require_own_model(wrong, "sae", identity_of(recipe)); }),
                 "this is Third (bbbbbbbbbbbb…)"));
  require_own_model(wrong, "sae", identity_of(vyx::Json::object()));  // says nothing
  require_own_model(wrong, "sae", identity_of(wrong.config.metadata["activations"]));
}
