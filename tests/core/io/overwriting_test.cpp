#include "core/io/overwriting.h"

#include "tests/test_support.h"

#include "core/io/files.h"

using vyx::test::contains;
using vyx::test::error_of;
using vyx::test::TemporaryFolder;

namespace fs = std::filesystem;

namespace {

std::string refusal(const fs::path& output, const fs::path& input) {
  const std::string message = error_of([&] {
    vyx::refuse_overwriting({{"--out", output}}, {{"--source", input}});
  });
  CHECK_FALSE(contains(message, "\n"));
  return message;
}

}  // namespace

TEST_CASE("[core.io] an output that is an input is refused, whatever the paths look like") {
  const TemporaryFolder folder;
  vyx::write_file(folder / "a", "1");
  fs::create_directories(folder / "x" / "y");
  fs::create_symlink("a", folder / "link");
  fs::create_hard_link(folder / "a", folder / "hard");
  fs::create_directory_symlink("x", folder / "elsewhere");
  const fs::path a = folder / "a";
  for (const fs::path& same :
       {a, folder / "." / "a", folder / "x" / ".." / "a", folder / "elsewhere" / ".." / "a",
        folder / "link", folder / "hard", fs::relative(a)}) {
    CAPTURE(same);
    CHECK(contains(refusal(same, a), "--out would overwrite what --source reads"));
    CHECK(contains(refusal(a, same), "--out would overwrite what --source reads"));
  }
  for (const fs::path& other : {folder / "b", folder / "x" / "a", folder / "a.gguf"}) {
    CHECK(refusal(other, a).empty());
    CHECK(refusal(a, other).empty());
  }
  CHECK(contains(error_of([&] {
                   vyx::refuse_overwriting({{"--out", a}, {"--gguf", folder / "link"}}, {});
                 }),
                 "found it for --out and for --gguf, expected two paths"));
}

TEST_CASE("[core.io] a folder that is read is not written into, and none is written around it") {
  const TemporaryFolder folder;
  fs::create_directories(folder / "store" / "deep");
  vyx::write_file(folder / "store" / "deep" / "shard", "1");
  fs::create_directory_symlink("store", folder / "link");
  fs::create_hard_link(folder / "store" / "deep" / "shard", folder / "hard");
  const fs::path store = folder / "store";
  CHECK(contains(refusal(store, store / ""), "would overwrite what"));
  CHECK(contains(refusal(folder / "link", store), "would overwrite what"));
  CHECK(contains(refusal(store / "deep" / "shard", store), "a part of what --source reads"));
  CHECK(contains(refusal(folder / "link" / "deep", store), "a part of what --source reads"));
  CHECK(contains(refusal(folder / "hard", store), "a part of what --source reads"));
  CHECK(contains(refusal(store, store / "deep" / "shard"),
                 "is a folder that holds what --source reads"));
  CHECK(contains(refusal(folder.path(), store), "is a folder that holds what --source reads"));
  CHECK(refusal(folder / "store2", store).empty());
  CHECK(refusal(store / "report.json", store).empty());  // new beside what is read
  CHECK(refusal(folder / "new", folder / "missing").empty());
}
