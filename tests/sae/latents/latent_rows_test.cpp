#include "tests/torch_support.h"

#include "sae/latents/latent_rows.h"

using namespace vyx::sae;
using vyx::test::contains;
using vyx::test::error_of;

namespace {

at::Tensor sparse(int64_t rows, int64_t latents, double density) {
  return at::rand({rows, latents}) * (at::rand({rows, latents}) < density).to(at::kFloat);
}

LatentRows in_parts(const at::Tensor& f, int64_t part) {
  LatentRows rows(f.size(1));
  for (const at::Tensor& each : f.split(part)) rows.add(each);
  return rows;
}

}  // namespace

TEST_CASE("[sae.latents.latent_rows] give back what was added") {
  at::manual_seed(1);
  const at::Tensor f = sparse(11, 40, 0.2);
  const LatentRows rows = in_parts(f, 3);
  CHECK(rows.rows() == 11);
  CHECK(rows.dense(0, 40).equal(f));
  CHECK(rows.dense(7, 20).equal(f.narrow(1, 7, 13)));
}

TEST_CASE("[sae.latents.latent_rows] separate as the dense latents do, across the parts") {
  at::manual_seed(2);
  const at::Tensor positive = sparse(20, 9000, 0.05), negative = sparse(15, 9000, 0.05);
  const Separation expected = separation(positive, negative),
                   found = separation(in_parts(positive, 7), in_parts(negative, 15));
  CHECK(found.auroc.equal(expected.auroc));
  CHECK(found.difference.allclose(expected.difference));
}

TEST_CASE("[sae.latents.latent_rows] another width is refused") {
  LatentRows rows(4);
  CHECK(contains(error_of([&] { rows.add(at::zeros({2, 5})); }), "[2, 5], expected [rows, 4]"));
  CHECK(contains(error_of([] { separation(LatentRows(4), LatentRows(5)); }), "4 and of 5"));
}
