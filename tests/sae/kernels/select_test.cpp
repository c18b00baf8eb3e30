#include "sae/kernels/select.h"

#include <cmath>
#include <limits>

#include "tests/random_tensors.h"
#include "tests/sae/random_autoencoder.h"
#include "tests/torch_support.h"

using namespace vyx::sae;
using vyx::test::normal;

namespace {

std::vector<Products> all_products() {
  std::vector<Products> result = {Products::float32, Products::emulated};
  if (bfloat16::available()) result.insert(result.end(), {Products::screened, Products::bfloat16});
  return result;
}

struct Case {
  at::Tensor x, encoder, bias;

  Preactivations preactivations(Products products) const { return {x, encoder, bias, products}; }

  /// z as `products` computes it [batch, latents].
  at::Tensor z(Products products) const {
    const bool rounds = products == Products::bfloat16 || products == Products::emulated;
    const auto factor = [&](const at::Tensor& t) {
      return (rounds ? t.to(at::kBFloat16) : t).to(at::kDouble);
    };
    return (at::mm(factor(x), factor(encoder).t()) + bias).to(at::kFloat);
  }
};

Case random_case(int64_t batch, int64_t latents, int64_t d, uint64_t seed = 1) {
  return {normal({batch, d}, seed), normal({latents, d}, seed + 1) / std::sqrt(double(d)),
          normal({latents}, seed + 2) * 0.1};
}

at::Tensor dense(const SparseCode& code) {
  at::Tensor f = at::zeros({code.tokens(), code.latents});
  for (int64_t t = 0; t < code.tokens(); ++t)
    for (int64_t e = code.offsets[t]; e < code.offsets[t + 1]; ++e) {
      if (e > code.offsets[t]) CHECK(code.indices[e] > code.indices[e - 1]);
      f.mutable_data_ptr<float>()[t * code.latents + code.indices[e]] = code.values[e];
    }
  return f;
}

at::Tensor largest(const at::Tensor& z, int64_t k) {
  const auto [values, indices] = z.topk(k, -1);
  return at::zeros_like(z).scatter(-1, indices, values).relu();
}

bool close(const at::Tensor& a, const at::Tensor& b) {
  return at::allclose(a, b, 1e-5, 1e-5) && at::equal(a > 0, b > 0);
}

}  // namespace

TEST_CASE("[sae.select] topk keeps the k largest of a token, however the products are computed") {
  for (const Products products : all_products())
    for (const auto& [batch, latents, d, k] :
         std::vector<std::array<int64_t, 4>>{{130, 1700, 33, 7}, {1, 5, 3, 5}, {65, 49, 64, 40}}) {
      const Case c = random_case(batch, latents, d);
      const SparseCode code = select_topk(c.preactivations(products), k);
      CHECK(close(dense(code), largest(c.z(products), k)));
    }
}

TEST_CASE(
    "[sae.select] batch-topk keeps the k·batch largest of the batch, however unequal its tokens "
    "are") {
  for (const Products products : all_products()) {
    Case c = random_case(300, 900, 20);
    c.x.mul_(at::arange(300).to(at::kFloat).unsqueeze(1) /
             50);  // rising norms: the last tokens take nearly all
    const at::Tensor z = c.z(products);
    for (const int64_t count : {1, 300 * 4, 300 * 900}) {
      const SparseCode code = select_batch_topk(c.preactivations(products), count);
      CHECK(close(dense(code), largest(z.flatten(), count).view_as(z)));
    }
  }
}

TEST_CASE("[sae.select] SAELens's example of batch-topk") {
  const at::Tensor z = at::tensor({1.f, -2.f, 3.f, -4.f, -5.f, 6.f, -7.f, 8.f}).view({2, 4});
  const Case c{z, at::eye(4), at::zeros({4})};
  const auto select = [&](int64_t count) {
    return dense(select_batch_topk(c.preactivations(choose_products(false)), count));
  };
  CHECK(at::equal(select(4), z.relu()));
  const at::Tensor three = z.relu();
  three[0][0] = 0;
  CHECK(at::equal(select(3), three));
}

TEST_CASE(
    "[sae.select] of equal pre-activations the lower latent is kept, then the earlier token") {
  const at::Tensor x = at::ones({2, 4});
  const Case c{x, at::ones({100, 4}), at::zeros({100})};
  for (const Products products : all_products()) {
    const SparseCode top = select_topk(c.preactivations(products), 3);
    CHECK(top.indices == std::vector<int32_t>{0, 1, 2, 0, 1, 2});
    const SparseCode batch = select_batch_topk(c.preactivations(products), 102);
    CHECK(batch.offsets == std::vector<int64_t>{0, 100, 102});
    CHECK(batch.indices.back() == 1);
  }
}

TEST_CASE(
    "[sae.select] what is chosen by a screen is what float32 chooses, where bfloat16 alone would "
    "choose otherwise") {
  if (!bfloat16::available()) return;
  Case c = random_case(64, 4000, 64);
  c.encoder = c.encoder.narrow(0, 0, 1).expand({4000, 64}) +
              1e-4 * c.encoder;  // nearly the same direction, 4,000 times
  const SparseCode screened = select_topk(c.preactivations(Products::screened), 20);
  const at::Tensor expected = largest(c.z(Products::float32), 20);
  CHECK(at::equal(dense(screened) > 0, expected > 0));
  const SparseCode rounded = select_topk(c.preactivations(Products::bfloat16), 20);
  CHECK_FALSE(at::equal(dense(rounded) > 0, expected > 0));
}

TEST_CASE(
    "[sae.select] select_above keeps what is above each latent's own bound, or nothing when it is "
    "too much") {
  for (const Products products : all_products()) {
    const Case c = random_case(200, 1000, 40);
    const at::Tensor lower =
                         at::rand({1000}, at::make_generator<at::CPUGeneratorImpl>(5)) * 2 - 0.2,
                     z = c.z(products);
    const auto code = select_above(c.preactivations(products), lower.const_data_ptr<float>(), 1000);
    REQUIRE(code);
    CHECK(at::equal(dense(*code) != 0, z > lower));
    CHECK(at::allclose(dense(*code), z * (z > lower), 1e-5, 1e-5));
    const double mean = double(code->entries()) / 200;
    CHECK_FALSE(
        select_above(c.preactivations(products), lower.const_data_ptr<float>(), mean * 0.9));
  }
}
