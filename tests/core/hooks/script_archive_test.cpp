#include "tests/core/hooks/script_fixtures.h"
// torch first
#include <sys/resource.h>

#include <csignal>
#include <fstream>
#include <iterator>

#include <torch/csrc/jit/serialization/pickle.h>

#include "core/hooks/script_archive.h"

namespace vyx {
namespace {

using test::contains;
using test::error_of;
using test::Module;
using test::TemporaryFolder;

std::string bytes_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

size_t files_in(const TemporaryFolder& folder) {
  return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(folder.path()), {}));
}

TEST_CASE("[core.script_archive] a module comes back with its extra files, in eval mode") {
  const TemporaryFolder folder;
  Module module = test::stack();
  module.register_attribute("training", c10::BoolType::get(), true);
  save_script(module, folder / "m.pt",
              {{"config.json", "{}"}, {"tokenizer", std::string("a\0b", 3)}});
  const ScriptArchive archive =
      load_script(folder / "m.pt", {"config.json", "tokenizer", "absent"});
  CHECK_FALSE(archive.module.is_training());
  CHECK(archive.extra_files == std::map<std::string, std::string>{
                                   {"config.json", "{}"}, {"tokenizer", std::string("a\0b", 3)}});
  const at::Tensor x = test::random({2, 4}, 3);
  Module loaded = archive.module;
  CHECK(test::same(loaded.forward({x}).toTensor(), module.forward({x}).toTensor()));
  CHECK(load_script(folder / "m.pt").extra_files.empty());
  CHECK(files_in(folder) == 1);
}

TEST_CASE("[core.script_archive] two saves of a module are the same bytes") {
  const TemporaryFolder folder;
  const Module module = test::stack();
  for (const char* name : {"a", "b"})
    save_script(module, folder / name, {{"one", "1"}, {"two", "2"}, {"three", "3"}});
  CHECK(bytes_of(folder / "a") == bytes_of(folder / "b"));
}

TEST_CASE("[core.script_archive] what is no TorchScript archive is one line that says so") {
  const TemporaryFolder folder;
  const auto load = [&](const char* name) { return error_of([&] { load_script(folder / name); }); };
  const auto expect = [&](const char* name, std::string_view reason) {
    const std::string error = load(name);
    CAPTURE(error);
    CHECK(contains(error, (folder / name).string()));
    CHECK(contains(error, reason));
    CHECK_FALSE(contains(error, "\n"));
  };
  expect("missing", "");
  write(folder / "text", "hello, this is not a module");
  expect("text", "not a TorchScript archive");
  write(folder / "empty", "");
  expect("empty", "");
  std::filesystem::create_directory(folder / "folder");
  expect("folder", "");

  save_script(test::stack(), folder / "m.pt");
  const std::string whole = bytes_of(folder / "m.pt");
  for (const size_t size : {size_t{4}, whole.size() / 4, whole.size() / 2, whole.size() - 30}) {
    write(folder / "cut", whole.substr(0, size));
    expect("cut", "truncated or damaged");
  }
  const std::vector<char> pickle = torch::jit::pickle_save(at::ones({2}));
  write(folder / "weights", std::string(pickle.begin(), pickle.end()));
  expect("weights", "weights without code");
}

/// Runs `call` with files that may not grow beyond `size`, as on a disk that fills up.
template <class Call>
void with_full_disk_at(size_t size, Call call) {
  rlimit old_limit{};
  getrlimit(RLIMIT_FSIZE, &old_limit);
  const rlimit limit{.rlim_cur = size, .rlim_max = old_limit.rlim_max};
  auto* const old_handler = std::signal(SIGXFSZ, SIG_IGN);
  setrlimit(RLIMIT_FSIZE, &limit);
  call();
  setrlimit(RLIMIT_FSIZE, &old_limit);
  std::signal(SIGXFSZ, old_handler);
}

TEST_CASE(
    "[core.script_archive] a failed save is an error, leaves no temporary file and keeps the old "
    "file") {
  const TemporaryFolder folder;
  const Module module = test::stack();
  save_script(module, folder / "m.pt");
  const std::string before = bytes_of(folder / "m.pt");
  // At once, in the midst of the records, and in the directory at the end, which the zip writer's
  // destructor writes.
  for (const size_t size : {size_t{0}, before.size() / 2, before.size() - 10}) {
    std::string error;
    with_full_disk_at(size,
                      [&] { error = error_of([&] { save_script(module, folder / "m.pt"); }); });
    CHECK(contains(error, "m.pt: cannot write (File too large)"));
    CHECK_FALSE(contains(error, "\n"));
    CHECK(bytes_of(folder / "m.pt") == before);
    CHECK(files_in(folder) == 1);
  }
  CHECK(contains(error_of([&] { save_script(module, folder / "no" / "such.pt"); }), "such.pt"));
}

}  // namespace
}  // namespace vyx
