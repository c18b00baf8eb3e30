#include "tests/torch_support.h"

#include "models/activations/logit_lens.h"

#include "tests/models/tiny_model.h"

using namespace vyx::test;

TEST_CASE("[models.logit_lens] is the final norm and the head of each vector") {
  auto model = tiny_model();
  at::manual_seed(1);
  const at::Tensor vectors = at::randn({5, 32});
  at::Tensor norm, head;  // [d], [vocabulary, d]
  for (const auto& parameter : model.module().module().named_parameters()) {
    if (parameter.name == "model.norm.weight") norm = parameter.value;
    if (parameter.name == "lm_head.weight") head = parameter.value;
  }
  REQUIRE(norm.defined());
  REQUIRE(head.defined());
  const at::Tensor scaled = vectors * (vectors.square().mean(1, true) + 1e-5).rsqrt() * norm;
  CHECK(vyx::models::logit_lens(model, vectors).allclose(at::matmul(scaled, head.t()), 1e-4, 1e-4));
}

TEST_CASE("[models.logit_lens] leaves no hook behind, and names a wrong width") {
  auto model = tiny_model();
  const std::vector<std::vector<vyx::models::TokenId>> rows = {{5, 6, 7}};
  const auto batch = vyx::models::make_batch(rows, vyx::models::Padding::right, 0);
  const at::Tensor before = model.logits(batch);
  (void)vyx::models::logit_lens(model, at::ones({1, 32}));
  CHECK(model.logits(batch).equal(before));
  CHECK(contains(error_of([&] {
                   vyx::models::logit_lens(model, at::ones({2, 48}));
                 }),
                 "found vectors [2, 48], expected [n, 32]"));
}
