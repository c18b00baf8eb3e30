#include "sae/store/activation_store.h"

#include <cmath>
#include <functional>
#include <numeric>

#include "core/io/digest.h"
#include "tests/sae/store/store_fixtures.h"

using namespace vyx;
using namespace vyx::sae;
using test::contains;
using test::error_of;
using test::TemporaryFolder;
using test::write_store;

namespace {

at::Tensor random_rows(int64_t rows, int64_t width, uint64_t seed = 0) {
  return at::randn({rows, width}, at::make_generator<at::CPUGeneratorImpl>(seed)) * 10;
}

/// Changes a file of the store in place; the manifest learns its new digest.
void spoil_shard(const std::filesystem::path& folder, size_t index,
                 const std::function<void(std::string&)>& change) {
  std::string shard = read_text_file(folder / shard_file(index));
  change(shard);
  write_file(folder / shard_file(index), shard);
  StoreManifest manifest = read_manifest(folder);
  manifest.shards[index].bytes = shard.size();
  manifest.shards[index].sha256 = sha256_file(folder / shard_file(index));
  write_file(folder / kManifestFile, to_json(manifest));
}

}  // namespace

TEST_CASE("[sae.activation_store] rows come back in any order, from any site, in every type") {
  const at::Tensor a = random_rows(101, 3, 1), b = random_rows(101, 5, 2);  // [rows, width]
  for (const ElementType type : {ElementType::f32, ElementType::bf16, ElementType::f16}) {
    const TemporaryFolder folder;
    write_store(folder / "store", {{"a", a}, {"b", b}}, type, 300);
    const ActivationStore store(folder / "store");
    CHECK(store.rows() == 101);
    CHECK(store.manifest().shards.size() > 3);
    const auto stored = [&](const at::Tensor& rows) {
      return rows
          .to(type == ElementType::f32   ? at::kFloat
              : type == ElementType::f16 ? at::kHalf
                                         : at::kBFloat16)
          .to(at::kFloat);
    };
    std::vector<uint64_t> order(101);
    std::iota(order.begin(), order.end(), 0);
    std::reverse(order.begin(), order.end());
    const std::vector<std::string> both{"b", "a"}, one{"a"};
    for (const bool parallel : {true, false}) {
      CHECK(at::equal(store.gather(order, store.find(both), parallel),
                      stored(at::cat({b, a}, 1)).flip(0)));
      CHECK(at::equal(store.gather(order, store.find(one), parallel), stored(a).flip(0)));
    }
    CHECK(store.find({}).size() == 2);
    CHECK(store.width(store.find({})) == 8);
  }
}

TEST_CASE("[sae.activation_store] patterns choose sites, in the order of the patterns, each once") {
  const TemporaryFolder folder;
  const at::Tensor rows = random_rows(3, 2);
  write_store(folder / "store",
              {{"m.1:output", rows}, {"m.2:output", rows}, {"m.2.mlp:input", rows}},
              ElementType::f32, 300);
  const ActivationStore store(folder / "store");
  const auto match = [&](std::vector<std::string> patterns) { return store.match(patterns); };
  using Names = std::vector<std::string>;
  CHECK(match({"m.2"}) == Names{"m.2:output"});
  CHECK(match({"*.mlp:input", "m.{1..2}"}) == Names{"m.2.mlp:input", "m.1:output", "m.2:output"});
  CHECK(match({"m.2", "m.*"}) == Names{"m.2:output", "m.1:output"});
  CHECK(match({}).empty());
  CHECK(contains(error_of([&] {
                   match({"m.1", "m.4"});
                 }),
                 "store: no site matches 'm.4'; the nearest are m.1:output"));
  CHECK(contains(error_of([&] { match({"m.{1..3}"}); }), "'m.3:output', one of 3"));
}

TEST_CASE("[sae.activation_store] the manifest's statistics are those of the stored rows") {
  const TemporaryFolder folder;
  const at::Tensor rows = random_rows(1000, 7) + 3;
  write_store(folder / "store", {{"x", rows}}, ElementType::bf16, 2000);
  const at::Tensor stored = rows.to(at::kBFloat16).to(at::kDouble), norms = stored.norm(2, 1);
  const StoreManifest manifest = read_manifest(folder / "store");
  const StoreSite& site = manifest.sites[0];
  for (int64_t j = 0; j < 7; ++j)
    CHECK(site.mean[static_cast<size_t>(j)] ==
          doctest::Approx(stored.mean(0)[j].item<double>()).epsilon(1e-12));
  CHECK(site.norm_mean == doctest::Approx(norms.mean().item<double>()).epsilon(1e-12));
  CHECK(site.norm_rms ==
        doctest::Approx(norms.square().mean().sqrt().item<double>()).epsilon(1e-12));
  CHECK(site.norm_max == doctest::Approx(norms.max().item<double>()).epsilon(1e-12));
  CHECK(to_json(manifest_from_json(to_json(manifest), "again")) == to_json(manifest));
}

TEST_CASE("[sae.activation_store] missing, cut and damaged shards are named") {
  const TemporaryFolder folder;
  const auto store = folder / "store";
  const auto fresh = [&] {
    std::filesystem::remove_all(store);
    write_store(store, {{"x", random_rows(100, 4)}});
  };
  const auto path = store / shard_file(1);

  fresh();
  std::filesystem::remove(path);
  CHECK(contains(error_of([&] { ActivationStore{store}; }), "shard-00001.safetensors: is missing"));

  fresh();
  const std::string whole = read_text_file(path);
  write_file(path, whole.substr(0, whole.size() - 1));
  CHECK(
      contains(error_of([&] { ActivationStore(store, false); }), "shard-00001.safetensors: found"));

  fresh();
  std::string flipped = whole;
  flipped[whole.size() - 10] ^= 1;
  write_file(path, flipped);
  CHECK(contains(error_of([&] { ActivationStore{store}; }),
                 "shard-00001.safetensors: found SHA-256"));
  CHECK(error_of([&] { ActivationStore(store, false); }).empty());
}

TEST_CASE("[sae.activation_store] a row that is not finite is refused, naming file and row") {
  for (const float value : {NAN, INFINITY, -INFINITY}) {
    for (const ElementType type : {ElementType::f32, ElementType::bf16, ElementType::f16}) {
      const TemporaryFolder folder;
      const auto store = folder / "store";
      write_store(store, {{"x", random_rows(100, 4)}}, type, 400);
      const uint64_t first_rows = read_manifest(store).shards[0].rows;
      spoil_shard(store, 1, [&](std::string& shard) {
        const size_t bytes = bits_of(type) / 8, row_bytes = 4 * bytes;
        const size_t data = shard.size() - read_manifest(store).shards[1].rows * row_bytes;
        const at::Tensor number = at::full({1}, value,
                                           type == ElementType::f32   ? at::kFloat
                                           : type == ElementType::f16 ? at::kHalf
                                                                      : at::kBFloat16);
        std::memcpy(shard.data() + data + 2 * row_bytes + 3 * bytes, number.data_ptr(), bytes);
      });
      const ActivationStore opened(store);
      const auto sites = opened.find({});
      const std::vector<uint64_t> good{0, first_rows + 1, first_rows + 3}, bad{0, first_rows + 2};
      CHECK(error_of([&] { opened.gather(good, sites); }).empty());
      for (const bool parallel : {true, false})
        CHECK(contains(error_of([&] { opened.gather(bad, sites, parallel); }),
                       "shard-00001.safetensors: found NaN or infinity in row 2 of x"));
    }
  }
}

TEST_CASE("[sae.activation_store] a shard of another store is refused, naming both shapes") {
  const TemporaryFolder folder;
  write_store(folder / "store", {{"x", random_rows(100, 4)}});
  write_store(folder / "other", {{"x", random_rows(100, 6)}});
  spoil_shard(folder / "store", 1, [&](std::string& shard) {
    shard = read_text_file(folder / "other" / shard_file(1));
  });
  const std::string error = error_of([&] { ActivationStore{folder / "store"}; });
  CHECK(contains(error, ", 6], expected F32 ["));
  CHECK(contains(error, "shard-00001"));
}

TEST_CASE("[sae.activation_store] sites and rows that are not there are refused") {
  const TemporaryFolder folder;
  write_store(folder / "store", {{"x", random_rows(10, 4)}, {"y", random_rows(10, 4)}});
  const ActivationStore store(folder / "store");
  const std::vector<std::string> unknown{"z"};
  CHECK(contains(error_of([&] { store.find(unknown); }), "no site z; it has x, y"));
  const std::vector<uint64_t> rows{10};
  CHECK(contains(error_of([&] { store.gather(rows, store.find({})); }), "no row 10"));
}

TEST_CASE("[sae.activation_store] a manifest that does not hold is refused by name") {
  const TemporaryFolder folder;
  write_store(folder / "store", {{"x", random_rows(100, 4)}});
  const Json good = parse_json(read_text_file(folder / "store" / kManifestFile), "manifest");
  const std::pair<const char*, Json> patches[] = {{"/format", "other"},
                                                  {"/version", 2},
                                                  {"/rows", 99},
                                                  {"/rows", -1},
                                                  {"/dtype", "int8"},
                                                  {"/sites", Json::array()},
                                                  {"/sites/0/width", 5},
                                                  {"/sites/0/mean", {1, 2, "3", 4}},
                                                  {"/sites/0", 3},
                                                  {"/shards/0/rows", 0},
                                                  {"/shards/0/file", "../x"},
                                                  {"/shards/0/sha256", 3},
                                                  {"/shards", 1},
                                                  {"/shards/0/rows", 9223372036854775807}};
  for (const auto& [pointer, value] : patches) {
    CAPTURE(pointer);
    Json bad = good;
    bad[Json::json_pointer(pointer)] = value;
    write_file(folder / "store" / kManifestFile, bad.dump());
    CHECK(contains(error_of([&] { ActivationStore{folder / "store"}; }), "manifest.json: "));
  }
  std::filesystem::remove(folder / "store" / kManifestFile);
  CHECK(
      contains(error_of([&] { ActivationStore{folder / "store"}; }), "finished activation store"));
  CHECK(contains(error_of([&] { ActivationStore{folder / "nothing"}; }), "found no folder"));
}
