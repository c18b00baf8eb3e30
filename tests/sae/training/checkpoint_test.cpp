#include "tests/torch_support.h"

#include "sae/training/checkpoint.h"

#include <cerrno>
#include <cmath>
#include <fstream>
#include <set>

#include "core/io/files.h"

using namespace vyx;
using namespace vyx::sae;
using vyx::test::contains;
using vyx::test::error_of;

namespace {

namespace fs = std::filesystem;

// A tiny state; the step and a seed decide all of it.
TrainState state_at(uint64_t step) {
  at::manual_seed(static_cast<int64_t>(step));
  const auto parameters = [] {
    return Parameters{.encoder = at::randn({3, 2}),
                      .encoder_bias = at::randn({3}),
                      .decoder = at::randn({3, 2}),
                      .decoder_bias = at::randn({2}),
                      .threshold = at::rand({3})};
  };
  TrainState state;
  state.sae.weights = parameters();
  state.sae.config.scales = {0.1 + static_cast<double>(step) / 7, 3};
  state.sae.config.target_scales = {1.0 / 7};
  state.sae.topk_threshold = 1.0 / 3;
  state.adam = {parameters(), parameters(), static_cast<int64_t>(step)};
  state.step = step;
  state.idle = at::randint(1'000'000, {3}, at::kLong);
  state.firings = at::randint(1'000'000, {3}, at::kLong);
  state.sums = {3, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, std::sqrt(2.0)};
  return state;
}

void require_equal(const TrainState& a, const TrainState& b) {
  const auto equal = [](const Parameters& left, const Parameters& right) {
    for_each_parameter(
        [](const ParameterKind& kind, const at::Tensor& l, const at::Tensor& r) {
          INFO(kind.name);
          REQUIRE(l.defined() == r.defined());
          if (l.defined()) CHECK(l.equal(r));
        },
        left, right);
  };
  equal(a.sae.weights, b.sae.weights);
  equal(a.adam.first, b.adam.first);
  equal(a.adam.second, b.adam.second);
  CHECK(a.adam.steps == b.adam.steps);
  CHECK(a.step == b.step);
  CHECK(a.idle.equal(b.idle));
  CHECK(a.firings.equal(b.firings));
  CHECK(a.sae.config.scales == b.sae.config.scales);
  CHECK(a.sae.config.target_scales == b.sae.config.target_scales);
  CHECK(a.sae.topk_threshold == b.sae.topk_threshold);
  CHECK(a.sums.steps == b.sums.steps);
  CHECK(a.sums.loss == b.sums.loss);
  CHECK(a.sums.gradient_norm == b.sums.gradient_norm);
}

const Json kRun = {{"options", {{"k", 3}}}};

// As a damaged disk would: in place, and without the fsync that makes thousands of writes slow.
void damage(const fs::path& path, std::string_view content) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << content;
}

std::set<std::string> names_in(const fs::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder))
    names.insert(entry.path().filename().string());
  return names;
}

}  // namespace

TEST_CASE("[sae.checkpoint] a state comes back bit for bit, with what it was saved beside") {
  const vyx::test::TemporaryFolder folder;
  start_checkpoints(folder.path());
  save_checkpoint(folder.path(), state_at(5), kRun);
  const auto loaded = load_checkpoint(folder.path());
  REQUIRE(loaded);
  require_equal(loaded->state, state_at(5));
  CHECK(loaded->run == kRun);
  CHECK(loaded->skipped.empty());
}

TEST_CASE("[sae.checkpoint] two are kept, the newest is loaded") {
  const vyx::test::TemporaryFolder folder;
  start_checkpoints(folder.path());
  for (const uint64_t step : {1, 2, 3}) save_checkpoint(folder.path(), state_at(step), kRun);
  CHECK(names_in(folder.path()) == std::set<std::string>{"LATEST", "step-000000002.safetensors",
                                                         "step-000000003.safetensors"});
  CHECK(load_checkpoint(folder.path())->state.step == 3);
}

TEST_CASE("[sae.checkpoint] a folder without a run, a run without a checkpoint") {
  const vyx::test::TemporaryFolder folder;
  CHECK_FALSE(list_checkpoints(folder / "none"));
  CHECK_FALSE(load_checkpoint(folder.path()));
  start_checkpoints(folder.path());
  CHECK(list_checkpoints(folder.path())->empty());
  CHECK_FALSE(load_checkpoint(folder.path()));
}

TEST_CASE("[sae.checkpoint] one that was written but never published is removed") {
  const vyx::test::TemporaryFolder folder;
  start_checkpoints(folder.path());
  write_file(folder / "step-000000001.safetensors", "whole, perhaps");
  CHECK_FALSE(load_checkpoint(folder.path()));
  CHECK(names_in(folder.path()) == std::set<std::string>{"LATEST"});
}

TEST_CASE("[sae.checkpoint] checkpoints without LATEST are not taken for a new run") {
  const vyx::test::TemporaryFolder folder;
  start_checkpoints(folder.path());
  save_checkpoint(folder.path(), state_at(1), kRun);
  fs::remove(folder / "LATEST");
  CHECK(contains(error_of([&] { (void)load_checkpoint(folder.path()); }), "LATEST"));
  CHECK(names_in(folder.path()).size() == 1);
}

TEST_CASE(
    "[sae.checkpoint] the newest with any byte flipped or cut anywhere: the older one is loaded, "
    "and the newer is named") {
  const vyx::test::TemporaryFolder folder;
  start_checkpoints(folder.path());
  save_checkpoint(folder.path(), state_at(1), kRun);
  save_checkpoint(folder.path(), state_at(2), kRun);
  const fs::path newest = folder / "step-000000002.safetensors";
  const std::string whole = read_text_file(newest);
  const auto falls_back = [&](std::string_view content) {
    damage(newest, content);
    const auto loaded = load_checkpoint(folder.path());
    return loaded && loaded->state.step == 1 && loaded->skipped.size() == 1 &&
           contains(loaded->skipped[0], newest.string());
  };
  size_t survived = 0;
  for (size_t i = 0; i < whole.size(); ++i) {
    std::string flipped = whole;
    flipped[i] = static_cast<char>(flipped[i] ^ (1 << (i % 8)));
    survived += falls_back(flipped) ? 0 : 1;
  }
  for (size_t length = 0; length < whole.size(); length += 7)
    survived += falls_back(whole.substr(0, length)) ? 0 : 1;
  CHECK(survived == 0);
  write_file(newest, whole);
  CHECK(load_checkpoint(folder.path())->state.step == 2);
}

TEST_CASE(
    "[sae.checkpoint] LATEST with any byte flipped is refused, and no checkpoint is removed on its "
    "word") {
  const vyx::test::TemporaryFolder folder;
  start_checkpoints(folder.path());
  save_checkpoint(folder.path(), state_at(1), kRun);
  save_checkpoint(folder.path(), state_at(2), kRun);
  const std::string whole = read_text_file(folder / "LATEST");
  size_t wrong = 0;
  for (size_t i = 0; i < whole.size(); ++i) {
    std::string flipped = whole;
    flipped[i] = static_cast<char>(flipped[i] ^ (1 << (i % 8)));
    damage(folder / "LATEST", flipped);
    // White space may turn into other white space.
    const bool same = parse_json(whole, "whole") == Json::parse(flipped, nullptr, false);
    const bool refused = !error_of([&] { (void)load_checkpoint(folder.path()); }).empty();
    wrong += same == refused ? 1 : 0;
  }
  CHECK(wrong == 0);
  CHECK(names_in(folder.path()).size() == 3);
}

TEST_CASE("[sae.checkpoint] when none verifies, that is an error and not step 0") {
  const vyx::test::TemporaryFolder folder;
  start_checkpoints(folder.path());
  for (const uint64_t step : {1, 2}) save_checkpoint(folder.path(), state_at(step), kRun);
  write_file(folder / "step-000000001.safetensors", "torn");
  fs::remove(folder / "step-000000002.safetensors");
  const std::string error = error_of([&] { (void)load_checkpoint(folder.path()); });
  CHECK(contains(error, "no checkpoint can be read"));
  CHECK(contains(error, "step-000000002"));
}

TEST_CASE(
    "[sae.checkpoint] after falling back, the steps that are done again take the damaged ones' "
    "place") {
  const vyx::test::TemporaryFolder folder;
  start_checkpoints(folder.path());
  for (const uint64_t step : {1, 2}) save_checkpoint(folder.path(), state_at(step), kRun);
  write_file(folder / "step-000000002.safetensors", "torn");
  CHECK(load_checkpoint(folder.path())->state.step == 1);
  save_checkpoint(folder.path(), state_at(2), kRun);
  const auto loaded = load_checkpoint(folder.path());
  require_equal(loaded->state, state_at(2));
  CHECK(loaded->skipped.empty());
}

TEST_CASE("[sae.checkpoint] a state that is not finite is never published") {
  const vyx::test::TemporaryFolder folder;
  start_checkpoints(folder.path());
  save_checkpoint(folder.path(), state_at(1), kRun);
  TrainState bad = state_at(2);
  bad.adam.second.decoder[1][1] = std::nan("");
  CHECK_THROWS_AS(save_checkpoint(folder.path(), bad, kRun), Diverged);
  CHECK(contains(error_of([&] { save_checkpoint(folder.path(), bad, kRun); }), "second.W_dec"));
  CHECK(load_checkpoint(folder.path())->state.step == 1);
}

namespace {

// Fails the n-th call and all after it, as a full or dying disk does; n beyond the last: none.
class FailingFileSystem : public FileSystem {
 public:
  explicit FailingFileSystem(int fail_from) : left_(fail_from) {}
  int open_exclusive(const char* path) override {
    return fails() ? -1 : FileSystem::open_exclusive(path);
  }
  long write(int fd, const void* data, size_t size) override {
    return fails() ? -1 : FileSystem::write(fd, data, size);
  }
  int fsync(int fd) override { return fails() ? -1 : FileSystem::fsync(fd); }
  int rename(const char* from, const char* to) override {
    return fails() ? -1 : FileSystem::rename(from, to);
  }
  int fsync_directory(const char* path) override {
    return fails() ? -1 : FileSystem::fsync_directory(path);
  }
  bool failed() const { return left_ < 0; }

 private:
  bool fails() {
    if (left_-- > 0) return false;
    left_ = -1;
    errno = ENOSPC;
    return true;
  }
  int left_;
};

}  // namespace

TEST_CASE(
    "[sae.checkpoint] whichever system call of a save fails, the last checkpoint or the new one is "
    "loaded whole") {
  int n = 0;
  for (bool failed = true; failed; ++n) {
    const vyx::test::TemporaryFolder folder;
    start_checkpoints(folder.path());
    save_checkpoint(folder.path(), state_at(1), kRun);
    FailingFileSystem system(n);
    const std::string error =
        error_of([&] { save_checkpoint(folder.path(), state_at(2), kRun, system); });
    failed = system.failed();
    CHECK(error.empty() != failed);
    const auto loaded = load_checkpoint(folder.path());
    REQUIRE(loaded);
    CHECK(loaded->skipped.empty());
    require_equal(loaded->state, state_at(loaded->state.step));
    if (!failed) CHECK(loaded->state.step == 2);
  }
  CHECK(n > 8);  // two files: open, write, sync, rename, sync the folder
}
