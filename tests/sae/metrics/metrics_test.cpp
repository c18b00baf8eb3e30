#include "tests/torch_support.h"

#include "sae/metrics/metrics.h"

#include <ATen/Parallel.h>

#include "tests/random_tensors.h"
#include "tests/sae/random_autoencoder.h"

namespace {

using namespace vyx::sae;
using namespace vyx::test;

struct Data {
  at::Tensor x = normal({700, 33}, 0) * 3 + 2;          // [tokens, d]
  at::Tensor y = x * 0.9 + normal({700, 33}, 1) * 0.5;  // [tokens, d]
  at::Tensor f = (normal({700, 65}, 2) - 1 - at::arange(65) / 10)
                     .relu();  // [tokens, latents]: the last hardly ever fire
};

Metrics measure(const Data& data, std::vector<int64_t> cuts) {
  MetricsAccumulator accumulator(33, 65);
  cuts.push_back(700);
  int64_t first = 0;
  for (const int64_t last : cuts) {
    accumulator.add(data.x.slice(0, first, last), data.y.slice(0, first, last),
                    data.f.slice(0, first, last));
    first = last;
  }
  return accumulator.metrics();
}

}  // namespace

TEST_CASE("[sae.metrics] figures are those of the formulas in plain torch, over batches") {
  const Data data;
  const Metrics result = measure(data, {1, 300});
  const at::Tensor x = data.x.to(at::kDouble), y = data.y.to(at::kDouble), e = x - y;
  const auto number = [](const at::Tensor& tensor) {
    return doctest::Approx(tensor.item<double>()).epsilon(1e-12);
  };
  const at::Tensor mse = e.square().sum(1).mean();
  CHECK(result.tokens == 700);
  CHECK(result.mse == number(mse));
  CHECK(result.explained_variance == number(1 - mse / (x - x.mean(0)).square().sum(1).mean()));
  CHECK(result.normalized_mse == number((e.square().sum(1) / x.square().sum(1)).mean()));
  CHECK(result.cosine == number(at::cosine_similarity(x, y, 1).mean()));
  CHECK(result.l2_ratio == number((y.norm(2, {1}) / x.norm(2, {1})).mean()));
  CHECK(result.relative_reconstruction_bias ==
        number(y.square().sum(1).mean() / (x * y).sum(1).mean()));
  CHECK(result.l0 == number((data.f > 0).sum(1).to(at::kDouble).mean()));
  const at::Tensor frequency = (data.f > 0).to(at::kDouble).mean(0);
  CHECK(result.dead_fraction > 0);
  CHECK(result.dead_fraction == number((frequency == 0).to(at::kDouble).mean()));
  const at::Tensor histogram = at::histc((frequency + 1e-10).log10(), 40, -10, 0);
  for (int64_t bin = 0; bin < 40; ++bin)
    CHECK(result.density.latents[bin] == histogram[bin].item<double>());
}

TEST_CASE("[sae.metrics] a latent's firings and largest activation are kept") {
  const Data data;
  MetricsAccumulator accumulator(33, 65);
  accumulator.add(data.x.slice(0, 0, 5), data.y.slice(0, 0, 5), data.f.slice(0, 0, 5));
  accumulator.add(data.x.slice(0, 5), data.y.slice(0, 5), data.f.slice(0, 5));
  CHECK(accumulator.latents().firings.equal((data.f > 0).sum(0)));
  CHECK(accumulator.latents().maximum.equal(data.f.amax(0)));
}

TEST_CASE("[sae.metrics] neither the cut into batches nor the number of threads changes a bit") {
  const Data data;
  const int threads = at::get_num_threads();
  const std::string whole = to_json(measure(data, {})).dump();
  at::set_num_threads(1);
  CHECK(to_json(measure(data, {})).dump() == whole);
  at::set_num_threads(threads);
  CHECK(to_json(measure(data, {64, 65, 500})).dump() == whole);
}

TEST_CASE("[sae.metrics] a perfect reconstruction and one of zeros") {
  const Data data;
  MetricsAccumulator perfect(33, 65), zero(33, 65);
  perfect.add(data.x, data.x, data.f);
  zero.add(data.x, at::zeros_like(data.x), at::zeros_like(data.f));
  CHECK(perfect.metrics().explained_variance == 1);
  CHECK(perfect.metrics().normalized_mse == 0);
  CHECK(perfect.metrics().cosine == doctest::Approx(1));
  CHECK(perfect.metrics().relative_reconstruction_bias == 1);
  CHECK(zero.metrics().normalized_mse == 1);
  CHECK(zero.metrics().cosine == 0);
  CHECK(zero.metrics().l0 == 0);
  CHECK(zero.metrics().dead_fraction == 1);
  CHECK(zero.metrics().density.latents[0] == 65);
  CHECK(to_json(zero.metrics())["relative_reconstruction_bias"].is_null());  // 0 / 0
}

TEST_CASE(
    "[sae.metrics] tokens of norm 0 are left out of ratios to their norm, and of nothing else") {
  MetricsAccumulator accumulator(2, 1);
  accumulator.add(at::tensor({0.f, 0.f, 3.f, 4.f}).view({2, 2}),
                  at::tensor({1.f, 0.f, 3.f, 3.f}).view({2, 2}), at::ones({2, 1}));
  const Metrics result = accumulator.metrics();
  CHECK(result.mse == 1);
  CHECK(result.normalized_mse == doctest::Approx(1. / 25));
  CHECK(result.l2_ratio == doctest::Approx(std::sqrt(18.) / 5));
}

TEST_CASE("[sae.metrics] shapes that do not fit, and no rows at all, are errors") {
  MetricsAccumulator accumulator(4, 8);
  CHECK(contains(error_of([&] { accumulator.metrics(); }), "no activation was measured"));
  CHECK(contains(error_of([&] {
                   accumulator.add(at::zeros({2, 4}), at::zeros({2, 4}), at::zeros({3, 8}));
                 }),
                 "latents [3, 8]; expected [tokens, 4] twice and [tokens, 8]"));
  CHECK(contains(error_of([&] {
                   accumulator.add(at::zeros({2, 5}), at::zeros({2, 5}), at::zeros({2, 8}));
                 }),
                 "a target [2, 5]"));
}
