#include "core/io/folder_lock.h"

#include <optional>

#include "core/io/files.h"
#include "tests/test_support.h"

using vyx::FolderLock;
using vyx::test::contains;
using vyx::test::error_of;

TEST_CASE("[core.folder_lock] a second writer is refused until the first has ended") {
  const vyx::test::TemporaryFolder folder;
  std::optional<FolderLock> first(std::in_place, folder.path());
  CHECK(contains(error_of([&] { FolderLock{folder.path()}; }), "another process"));
  first.reset();
  CHECK(error_of([&] { FolderLock{folder.path()}; }).empty());
}

TEST_CASE("[core.folder_lock] what killed writers left is removed, and nothing else") {
  const vyx::test::TemporaryFolder folder;
  vyx::write_file(folder / ".tmp-1-abcd", "half");
  vyx::write_file(folder / "shard", "whole");
  FolderLock(folder.path()).remove_leftovers();
  CHECK(!std::filesystem::exists(folder / ".tmp-1-abcd"));
  CHECK(std::filesystem::exists(folder / "shard"));
}

TEST_CASE("[core.folder_lock] what is no folder is refused") {
  const vyx::test::TemporaryFolder folder;
  vyx::write_file(folder / "file", "");
  CHECK(contains(error_of([&] { FolderLock{folder / "file"}; }), "file"));
  CHECK(contains(error_of([&] { FolderLock{folder / "nothing"}; }), "nothing"));
}
