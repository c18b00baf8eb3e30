#include "tests/torch_support.h"

#include "steering/edits/steer.h"

#include <limits>

#include "core/hooks/activation_reader.h"
#include "tests/steering/planted_model.h"

namespace {

using namespace vyx::steering;
using namespace vyx::test;

const std::vector<std::string> kTwoSites = {"model.layers.0:output", "model.layers.1:output"};

struct Steered {
  vyx::models::LanguageModel model = planted_model();
  vyx::models::Batch batch = batch_of(model, {"Hello", "world"});

  at::Tensor logits() { return model.logits(batch); }  // [batch, seq, vocabulary]
  at::Tensor logits(const std::vector<WeightedVector>& vectors, const SteerOptions& options = {}) {
    const Steering steering = steer(model, vectors, options);
    return logits();
  }
  std::string error(const WeightedVector& vector, const SteerOptions& options = {}) {
    return error_of([&] { (void)steer(model, {&vector, 1}, options); });
  }
};

}  // namespace

TEST_CASE("[steering.steer] c·v is added at each site") {
  Steered steered;
  const auto site = [&] {
    return vyx::capture(steered.model.module(), "model.layers.0", {steered.batch.ids, {}})
        .begin()
        ->second[0];
  };
  const at::Tensor before = site();  // [batch, seq, d]
  const std::vector<WeightedVector> vectors = {{vector_at({"model.layers.0:output"}), -1.5, ""}};
  const Steering steering = steer(steered.model, vectors);
  CHECK(at::allclose(site() - before, (-1.5 * planted_direction()).expand_as(before), 1e-5, 1e-6));
  CHECK(steering.firings() == 1);
  steering.require_fired();
}

TEST_CASE(
    "[steering.steer] coefficient 0 is the unsteered model, bit for bit, as is the end of "
    "steering") {
  Steered steered;
  const at::Tensor baseline = steered.logits();
  CHECK(at::equal(steered.logits({{vector_at(kTwoSites), 0, ""}}), baseline));
  {
    const std::vector<WeightedVector> vectors = {{vector_at(kTwoSites), 3, ""}};
    Steering steering = steer(steered.model, vectors);
    CHECK_FALSE(at::equal(steered.logits(), baseline));
    steering.set_scale(0);
    CHECK(at::equal(steered.logits(), baseline));
  }
  CHECK(at::equal(steered.logits(), baseline));
}

TEST_CASE("[steering.steer] a vector and its opposite cancel") {
  Steered steered;
  const at::Tensor sum =
      steered.logits({{vector_at(kTwoSites), 2, ""}, {vector_at(kTwoSites), -2, ""}});
  CHECK(at::allclose(sum, steered.logits(), 1e-5, 1e-6));
}

TEST_CASE("[steering.steer] coefficient and scale multiply") {
  Steered steered;
  const std::vector<WeightedVector> vectors = {{vector_at(kTwoSites), 0.5, ""}};
  Steering steering = steer(steered.model, vectors);
  steering.set_scale(4);
  const at::Tensor scaled = steered.logits();
  { Steering ended = std::move(steering); }
  CHECK(at::allclose(scaled, steered.logits({{vector_at(kTwoSites), 2, ""}}), 1e-5, 1e-6));
}

TEST_CASE(
    "[steering.steer] several vectors make one edit a site, with a term each in their order") {
  auto model = planted_model();
  const at::Tensor other = at::ones({kWidth});
  const std::vector<WeightedVector> vectors = {
      {vector_at(kTwoSites), 2, ""},
      {vector_at({"model.layers.1:output", "model.layers.2:output"}, other), -1, ""}};
  const auto edits = make_edits(model, vectors);
  REQUIRE(edits.size() == 3);
  CHECK(edits[0].site.name() == "model.layers.0:output");
  CHECK(edits[1].site.name() == "model.layers.1:output");
  CHECK(edits[2].site.name() == "model.layers.2:output");
  REQUIRE(edits[1].edit.terms().size() == 2);
  const at::Tensor x = at::zeros({kWidth});
  CHECK(at::allclose(vyx::implicit_vector(edits[0].edit, x), 2 * planted_direction()));
  CHECK(at::allclose(vyx::implicit_vector(edits[1].edit, x), 2 * planted_direction() - other));
  CHECK(at::allclose(vyx::implicit_vector(edits[2].edit, x), -other));
}

TEST_CASE("[steering.steer] a pattern keeps a vector to some of its sites") {
  auto model = planted_model();
  const std::vector<WeightedVector> vectors = {{vector_at(kTwoSites), 1, "model.layers.{1..1}"}};
  const auto edits = make_edits(model, vectors);
  REQUIRE(edits.size() == 1);
  CHECK(edits[0].site.name() == "model.layers.1:output");
}

TEST_CASE("[steering.steer] each row of a batch can have its own coefficients") {
  Steered steered;
  const at::Tensor other = seeded_normal({kWidth}, 5);
  // The second vector is alone at its site: there its column is the first term's.
  const std::vector<WeightedVector> vectors = {
      {vector_at(kTwoSites), 1, ""}, {vector_at({"model.layers.2:output"}, other), 1, ""}};
  Steering steering = steer(steered.model, vectors);
  steering.set_scale(at::tensor({0.0f, 2.0f, 3.0f, 0.0f}).view({2, 2}));
  const at::Tensor mixed = steered.logits();
  steering.set_scale(at::tensor({0.0f, 1.0f}));
  const at::Tensor second_only = steered.logits();
  { Steering ended = std::move(steering); }
  CHECK(at::allclose(mixed[0], steered.logits({{vectors[1].vector, 2, ""}})[0], 1e-5, 1e-5));
  CHECK(at::allclose(mixed[1], steered.logits({{vectors[0].vector, 3, ""}})[1], 1e-5, 1e-5));
  CHECK(at::allclose(second_only[0], steered.logits()[0], 1e-5, 1e-6));
  CHECK(at::allclose(second_only[1], steered.logits(vectors)[1], 1e-5, 1e-5));
}

TEST_CASE("[steering.steer] scales of another shape are refused") {
  Steered steered;
  const std::vector<WeightedVector> vectors = {{vector_at(kTwoSites), 1, ""}};
  Steering steering = steer(steered.model, vectors);
  CHECK(contains(error_of([&] {
                   steering.set_scale(at::ones({2, 3}));
                 }),
                 "2 × 3, expected [], [batch] or [batch, 1 vectors]"));
  CHECK(contains(error_of([&] { steering.set_scale(at::ones({2, 1, 1})); }), "2 × 1 × 1"));
}

TEST_CASE(
    "[steering.steer] with Positions::generated a prompt is left alone, and steering says that it "
    "never fired") {
  Steered steered;
  const at::Tensor baseline = steered.logits();
  const std::vector<WeightedVector> vectors = {{vector_at(kTwoSites), 9, ""}};
  const Steering steering = steer(steered.model, vectors, {.positions = vyx::Positions::generated});
  CHECK(at::equal(steered.logits(), baseline));
  CHECK(steering.firings() == 0);
  CHECK(contains(error_of([&] { steering.require_fired(); }), "model.layers.0:output"));
}

TEST_CASE("[steering.steer] a vector of another model is refused, unless it is asked for") {
  Steered steered;
  WeightedVector vector{vector_at(kTwoSites), 1, ""};
  vector.vector.provenance.model_name = "Another";
  vector.vector.provenance.model_sha256 = "12ab34cd56ef7890";
  const std::string error = steered.error(vector);
  CHECK(contains(
      error,
      "planted.gguf: was made with model \"Another\" (sha256 12ab34cd56ef…), this is \"Tiny\""));
  CHECK(contains(error, "extract it again, or pass --allow-other-model"));
  CHECK(steered.error(vector, {.allow_other_model = true}).empty());
  vector.vector.provenance.model_sha256 = steered.model.config().provenance.sha256;
  CHECK(steered.error(vector).empty());
}

TEST_CASE("[steering.steer] a foreign vector has only its architecture to go by") {
  Steered steered;
  WeightedVector vector{vector_at(kTwoSites), 1, ""};
  vector.vector.provenance = {};
  CHECK(steered.error(vector).empty());
  vector.vector.provenance.model_hint = "llama";
  CHECK(steered.error(vector).empty());
  vector.vector.provenance.model_hint = "gpt2";
  CHECK(contains(steered.error(vector),
                 "planted.gguf: was made for a model of architecture \"gpt2\""));
  CHECK(steered.error(vector, {.allow_other_model = true}).empty());
}

TEST_CASE("[steering.steer] a vector of another width or for other sites is refused by name") {
  Steered steered;
  CHECK(contains(steered.error({vector_at(kTwoSites, at::ones({kWidth + 1})), 1, ""}),
                 "planted.gguf: has width 33, \"Tiny\" has 32"));
  const std::string error = steered.error({vector_at({"model.layers.12:output"}), 1, ""});
  CHECK(contains(error, "planted.gguf: is for model.layers.12:output, which the model has not"));
  CHECK(contains(error, "model.layers.1:output"));
  CHECK(contains(steered.error({vector_at(kTwoSites), 1, "model.layers.2"}),
                 "planted.gguf: no site matches 'model.layers.2'; the nearest are model.layers.0"));
  CHECK(contains(steered.error({vector_at(kTwoSites), 1, "model.layers.{1..4}"}),
                 "no site matches 'model.layers.2:output', one of 4 that"));
  CHECK(contains(steered.error({vector_at({}), 1, ""}), "holds no direction"));
  CHECK(contains(steered.error({vector_at(kTwoSites), std::numeric_limits<double>::infinity(), ""}),
                 "coefficient is inf"));
}
