#include "sae/store/harvest_to_store.h"

#include <stdexcept>

#include "sae/store/activation_store.h"
#include "tests/sae/store/store_fixtures.h"

using namespace vyx;
using namespace vyx::sae;
using test::contains;
using test::error_of;
using test::files_in;
using test::harvest_of;
using test::TemporaryFolder;

namespace {

/// Rows [60, 4], every ninth of them 30 times as long as the others: sinks.
at::Tensor planted_rows() {
  at::Tensor rows = at::randn({60, 4}, at::make_generator<at::CPUGeneratorImpl>(3)) * 0.1 + 1;
  for (int64_t i = 5; i < 60; i += 9) rows[i] *= 30;
  return rows;
}

struct Interrupted : std::runtime_error {
  using std::runtime_error::runtime_error;
};

HarvestToStoreOptions options_of(uint64_t rows, uint64_t shard_bytes = 100) {
  return {.rows = rows, .type = ElementType::f32, .shard_bytes = shard_bytes};
}

}  // namespace

TEST_CASE(
    "[sae.harvest_to_store] the store holds the rows that were kept, in order, and says what was "
    "left out") {
  const TemporaryFolder folder;
  const at::Tensor rows = planted_rows(), kept = rows.index({rows.norm(2, 1) < 20});
  auto harvest =
      harvest_of(rows, 7, {.sites = {Site::parse("same:input"), Site::parse("same:output")}});
  const auto result = harvest_to_store(harvest, folder / "store", options_of(45));
  CHECK(!result.was_finished);
  const ActivationStore store(folder / "store");
  std::vector<uint64_t> order(45);
  for (uint64_t i = 0; i < 45; ++i) order[i] = i;
  CHECK(at::equal(store.gather(order, store.find({})),
                  at::cat({kept, kept * 2}, 1).narrow(0, 0, 45)));
  CHECK(store.manifest().left_out["sinks"] == result.manifest.left_out["sinks"]);
  CHECK(store.manifest().tokens - store.manifest().left_out["sinks"].get<uint64_t>() >= 45);
  CHECK(store.manifest().sites[1].norm_threshold ==
        doctest::Approx(10 * store.manifest().sites[1].norm_median));
  CHECK(store.manifest().recipe["module"] == "double");
}

TEST_CASE("[sae.harvest_to_store] interrupted after any forward, it ends with the same bytes") {
  const TemporaryFolder folder;
  const at::Tensor rows = planted_rows();
  for (const uint64_t wanted : {45, 1000}) {  // within the input, and beyond its end
    for (const uint64_t shard_bytes :
         {40, 112, 100000}) {  // forwards cut by shards; some that fit; one shard
      const auto straight = folder / fmt::format("straight-{}-{}", wanted, shard_bytes);
      auto harvest = harvest_of(rows, 7);
      harvest_to_store(harvest, straight, options_of(wanted, shard_bytes));
      const auto expected = files_in(straight);
      CHECK(!expected.contains("state.json"));
      for (int forward = 1; forward < 10; ++forward) {
        CAPTURE(forward);
        const auto store = folder / fmt::format("cut-{}-{}-{}", wanted, shard_bytes, forward);
        auto options = options_of(wanted, shard_bytes);
        int left = forward;
        options.on_rows = [&](uint64_t) {
          if (--left == 0) throw Interrupted("");
        };
        try {
          auto cut = harvest_of(rows, 7);
          harvest_to_store(cut, store, options);
        } catch (const Interrupted&) {
          auto again = harvest_of(rows, 7);
          CHECK(!harvest_to_store(again, store, options_of(wanted, shard_bytes)).was_finished);
        }
        CHECK(files_in(store) == expected);
      }
    }
  }
}

TEST_CASE("[sae.harvest_to_store] interrupted again and again, it gets there") {
  const TemporaryFolder folder;
  auto harvest = harvest_of(planted_rows(), 7);
  harvest_to_store(harvest, folder / "straight", options_of(45));
  auto options = options_of(45);
  int forwards = 0, interruptions = 0;
  options.on_rows = [&](uint64_t) {
    if (++forwards % 3 == 0) throw Interrupted("");  // the end takes two forwards in one go
  };
  for (bool finished = false; !finished;) {
    try {
      auto again = harvest_of(planted_rows(), 7);
      finished = harvest_to_store(again, folder / "store", options).manifest.rows == 45;
    } catch (const Interrupted&) {
      REQUIRE(++interruptions < 100);
    }
  }
  CHECK(interruptions > 2);
  CHECK(files_in(folder / "store") == files_in(folder / "straight"));
}

TEST_CASE(
    "[sae.harvest_to_store] a shard that no state knows, and files of killed writers, are written "
    "over or removed") {
  const TemporaryFolder folder;
  const auto expected = [&] {
    auto harvest = harvest_of(planted_rows(), 7);
    harvest_to_store(harvest, folder / "straight", options_of(40));
    return files_in(folder / "straight");
  }();
  std::filesystem::create_directory(folder / "store");
  write_file(folder / "store" / shard_file(0), "half a shard");
  write_file(folder / "store" / ".tmp-1-2", "a killed writer's");
  auto harvest = harvest_of(planted_rows(), 7);
  harvest_to_store(harvest, folder / "store", options_of(40));
  CHECK(files_in(folder / "store") == expected);
}

TEST_CASE(
    "[sae.harvest_to_store] a finished store is left as it is, and another recipe is refused by "
    "what differs") {
  const TemporaryFolder folder;
  auto harvest = harvest_of(planted_rows(), 7);
  harvest_to_store(harvest, folder / "store", options_of(40));
  const auto files = files_in(folder / "store");
  auto again = harvest_of(planted_rows(), 7);
  CHECK(harvest_to_store(again, folder / "store", options_of(40)).was_finished);
  CHECK(files_in(folder / "store") == files);
  CHECK(contains(error_of([&] { harvest_to_store(again, folder / "store", options_of(41)); }),
                 "tokens = 40, found 41 now"));
  auto other = harvest_of(planted_rows(), 7, {.sink_threshold = 5});
  CHECK(contains(error_of([&] { harvest_to_store(other, folder / "store", options_of(40)); }),
                 "sink_threshold = 10.0, found 5.0 now"));

  auto options = options_of(40);
  options.on_rows = [](uint64_t) { throw Interrupted(""); };
  auto begun = harvest_of(planted_rows(), 7);
  CHECK_THROWS_AS(harvest_to_store(begun, folder / "unfinished", options), Interrupted);
  CHECK(contains(error_of([&] { harvest_to_store(other, folder / "unfinished", options_of(40)); }),
                 "sink_threshold"));
}

TEST_CASE(
    "[sae.harvest_to_store] two writers, other files, 0 rows and an input without rows are "
    "refused") {
  const TemporaryFolder folder;
  auto harvest = harvest_of(planted_rows(), 7);
  {
    std::filesystem::create_directory(folder / "locked");
    const FolderLock lock(folder / "locked");
    CHECK(contains(error_of([&] { harvest_to_store(harvest, folder / "locked", options_of(10)); }),
                   "another process"));
  }
  std::filesystem::create_directory(folder / "thesis");
  write_file(folder / "thesis" / "thesis.tex", "years of work");
  CHECK(contains(error_of([&] { harvest_to_store(harvest, folder / "thesis", options_of(10)); }),
                 "found thesis.tex"));
  CHECK(contains(error_of([&] { harvest_to_store(harvest, folder / "store", options_of(0)); }),
                 "0 tokens"));
  CHECK(!std::filesystem::exists(folder / "store"));
}

TEST_CASE("[sae.harvest_to_store] an activation that does not fit the type is refused") {
  const TemporaryFolder folder;
  at::Tensor rows = planted_rows();
  rows[30] *= 1e6;
  auto harvest = harvest_of(rows, 7, {.sink_threshold = 0});
  const std::string error = error_of([&] {
    harvest_to_store(harvest, folder / "store",
                     {.rows = 50, .type = ElementType::f16, .shard_bytes = 200});
  });
  CHECK(contains(error, "same:input that does not fit float16"));
}
