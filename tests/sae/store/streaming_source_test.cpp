#include "sae/store/streaming_source.h"

#include <set>

#include "tests/sae/store/store_fixtures.h"

using namespace vyx;
using namespace vyx::sae;
using test::contains;
using test::error_of;

namespace {

constexpr int64_t kStreamedRows = 90;

/// Forwards of 10 rows; row i is [i + 1, 1], but for every 30th, a sink.
std::unique_ptr<models::Harvest> numbered_harvest() {
  at::Tensor rows =
      at::stack({at::arange(1, kStreamedRows + 1, at::kFloat), at::ones({kStreamedRows})}, 1);
  for (int64_t i = 29; i < kStreamedRows; i += 30) rows[i] = 1e6;
  return std::make_unique<models::Harvest>(test::harvest_of(rows, 10));
}

constexpr StreamingSourceOptions kOptions{
    .batch = 8, .refill_forwards = 4, .refill_batches = 5, .seed = 1};

}  // namespace

TEST_CASE("[sae.streaming_source] batches hold the rows of their group of forwards, shuffled") {
  StreamingSource source(numbered_harvest(), kOptions);
  CHECK(source.width() == 2);
  for (uint64_t group = 0; group < 6; ++group) {
    std::set<int64_t> expected, taken;  // the input has 9 forwards: groups begin anew where it ends
    for (uint64_t forward = group * 4; forward < group * 4 + 4; ++forward)
      for (uint64_t i = 0; i < 10; ++i)
        if (const auto row = static_cast<int64_t>(forward % 9 * 10 + i); row % 30 != 29)
          expected.insert(row + 1);
    std::vector<int64_t> order;
    for (uint64_t step = group * 5; step < group * 5 + 5; ++step) {
      const at::Tensor batch = source.batch(step);  // [8, 2]
      for (int64_t i = 0; i < 8; ++i) {
        order.push_back(static_cast<int64_t>(batch[i][0].item<float>()));
        taken.insert(order.back());
      }
    }
    CHECK(taken == expected);  // 40 rows are taken of the 38 or 39 that there are
    CHECK(!std::is_sorted(order.begin(), order.end()));
  }
}

TEST_CASE("[sae.streaming_source] a batch is a function of seed and step") {
  StreamingSource source(numbered_harvest(), kOptions);
  std::vector<at::Tensor> batches;
  for (uint64_t step = 0; step < 40; ++step) batches.push_back(source.batch(step));
  for (const uint64_t step : {39, 17, 5, 0}) {
    StreamingSource again(numbered_harvest(), kOptions);
    CHECK(at::equal(again.batch(step), batches[step]));
    CHECK(at::equal(source.batch(step), batches[step]));
  }
  StreamingSourceOptions other = kOptions;
  other.seed = 2;
  CHECK(!at::equal(StreamingSource(numbered_harvest(), other).batch(0), batches[0]));
}

TEST_CASE("[sae.streaming_source] a pass is counted without disturbing the batches") {
  StreamingSource source(numbered_harvest(), kOptions);
  const at::Tensor expected = StreamingSource(numbered_harvest(), kOptions).batch(6);
  source.batch(0);
  CHECK(source.rows() == 9 * 40 / 4);
  CHECK(at::equal(source.batch(6), expected));
  REQUIRE(source.norms().size() == 1);
  CHECK(source.norms()[0].mean_norm > 10);
  CHECK(source.norms()[0].mean_norm < 50);
  CHECK(source.norms()[0].width == source.width());
  CHECK(source.provenance()["refill_forwards"] == 4);
}

TEST_CASE("[sae.streaming_source] sizes below 1 are refused") {
  StreamingSourceOptions options = kOptions;
  options.refill_batches = 0;
  CHECK(contains(error_of([&] { StreamingSource(numbered_harvest(), options); }),
                 "expected at least 1 each"));
}
