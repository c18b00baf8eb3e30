#include "sae/store/store_source.h"

#include <algorithm>
#include <numeric>

#include "tests/sae/store/store_fixtures.h"

using namespace vyx;
using namespace vyx::sae;
using test::contains;
using test::error_of;
using test::TemporaryFolder;

namespace {

constexpr int64_t kRows = 103;

/// A store whose row i is [i, 1] at site "a" and [-i] at site "b".
std::shared_ptr<const ActivationStore> numbered_store(const TemporaryFolder& folder) {
  const at::Tensor numbers = at::arange(kRows, at::kFloat).unsqueeze(1);  // [rows, 1]
  test::write_store(folder / "store",
                    {{"a", at::cat({numbers, at::ones_like(numbers)}, 1)}, {"b", -numbers}});
  return std::make_shared<const ActivationStore>(folder / "store");
}

}  // namespace

TEST_CASE("[sae.store_source] each pass takes every row once, in an order of its own") {
  const TemporaryFolder folder;
  StoreSource source(numbered_store(folder), {.sites = {"a"}, .batch = 10, .seed = 5});
  std::vector<int64_t> taken;
  for (uint64_t step = 0; step < 31; ++step) {
    const at::Tensor batch = source.batch(step);
    REQUIRE(batch.sizes() == at::IntArrayRef{10, 2});
    for (int64_t i = 0; i < 10; ++i)
      taken.push_back(static_cast<int64_t>(batch[i][0].item<float>()));
  }
  std::vector<std::vector<int64_t>> passes;
  for (int64_t pass = 0; pass < 3; ++pass) {
    passes.emplace_back(taken.begin() + pass * kRows, taken.begin() + (pass + 1) * kRows);
    std::vector<int64_t> sorted = passes.back(), all(kRows);
    std::sort(sorted.begin(), sorted.end());
    std::iota(all.begin(), all.end(), 0);
    CHECK(sorted == all);
    CHECK(!std::is_sorted(passes.back().begin(), passes.back().end()));
  }
  CHECK(passes[0] != passes[1]);
  CHECK(passes[1] != passes[2]);
}

TEST_CASE(
    "[sae.store_source] a batch is a function of seed and step, and holds the sites side by side") {
  const TemporaryFolder folder;
  const auto store = numbered_store(folder);
  const StoreSourceOptions options{.sites = {"b", "a"}, .batch = 16, .seed = 9};
  StoreSource source(store, options);
  CHECK(source.width() == 3);
  CHECK(source.rows() == kRows);
  std::vector<at::Tensor> batches;
  for (uint64_t step = 0; step < 20; ++step) {
    batches.push_back(source.batch(step));
    CHECK(at::equal(batches.back().select(1, 0), -batches.back().select(1, 1)));
    CHECK(at::equal(batches.back().select(1, 2), at::ones({16})));
  }
  for (const uint64_t step : {19, 3, 7, 8, 0}) {
    StoreSource again(store, options);
    CHECK(at::equal(again.batch(step), batches[step]));
    CHECK(at::equal(source.batch(step), batches[step]));  // a jump
  }
  StoreSource other(store, {.sites = {"b", "a"}, .batch = 16, .seed = 10});
  CHECK(!at::equal(other.batch(0), batches[0]));
}

TEST_CASE(
    "[sae.store_source] the mean norm and the provenance are those of the sites that were chosen") {
  const TemporaryFolder folder;
  const auto store = numbered_store(folder);
  const StoreSource one(store, {.sites = {"b"}}), both(store, {});
  const at::Tensor numbers = at::arange(kRows, at::kDouble);
  REQUIRE(one.norms().size() == 1);
  const SiteNorms b = one.norms().front();
  CHECK(b.site == "b");
  CHECK(b.mean_norm == doctest::Approx(numbers.mean().item<double>()));
  CHECK(b.center == doctest::Approx(numbers.mean().item<double>()));
  CHECK(b.deviation == doctest::Approx(numbers.std(/*unbiased=*/false).item<double>()));
  REQUIRE(both.norms().size() == 2);
  CHECK(both.norms()[0].width + both.norms()[1].width == both.width());
  CHECK(both.norms()[1].mean_norm == b.mean_norm);
  CHECK(one.provenance()["sites"] == Json{"b"});
  CHECK(one.provenance()["store_sha256"] == store->digest());
  CHECK(one.provenance()["model"] == "none");
}

TEST_CASE("[sae.store_source] a batch of no rows and a site that is not there are refused") {
  const TemporaryFolder folder;
  const auto store = numbered_store(folder);
  CHECK(contains(error_of([&] { StoreSource(store, {.batch = 0}); }), "batch of 0"));
  CHECK(contains(error_of([&] { StoreSource(store, {.sites = {"c"}}); }), "no site c"));
}
