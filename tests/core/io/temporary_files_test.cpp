#include "core/io/temporary_files.h"

#include "tests/test_support.h"

#include <sys/wait.h>
#include <unistd.h>

#include "core/io/files.h"

using vyx::test::TemporaryFolder;

namespace {

size_t files_in(const TemporaryFolder& folder) {
  return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(folder.path()), {}));
}

// A process that runs `call` and ends without its destructors.
template <class Call>
pid_t ended_process(Call&& call) {
  const pid_t process = ::fork();
  if (process == 0) {
    call();
    ::_exit(0);
  }
  ::waitpid(process, nullptr, 0);
  return process;
}

}  // namespace

TEST_CASE("[core.io] a process that ends in a signal handler removes its temporary files alone") {
  const TemporaryFolder folder;
  vyx::AtomicFile file(folder / "of_parent");
  ended_process([&] {
    vyx::remove_temporaries();  // of its own: none
    const vyx::AtomicFile one(folder / "one"), two(folder / "two");
    vyx::remove_temporaries();
    ::_exit(0);
  });
  CHECK(files_in(folder) == 1);
  file.write("whole");
  file.commit();
  CHECK(vyx::read_text_file(folder / "of_parent") == "whole");
  vyx::write_file(folder / "another", "x");
  vyx::remove_temporaries();  // what was renamed is no temporary file
  CHECK(files_in(folder) == 2);
}

TEST_CASE("[core.io] what a killed process left is removed, and nothing else") {
  const TemporaryFolder folder;
  const pid_t dead = ended_process([&] {
    auto* const file = new vyx::AtomicFile(folder / "out");  // without a destructor, as killed
    file->write(std::string(2 << 20, 'x'));
    ::_exit(0);
  });
  CHECK(files_in(folder) == 1);
  const vyx::AtomicFile living(folder / "mine");
  const std::string prefix = ".tmp-" + std::to_string(dead);
  for (const std::string& other :
       {std::string(".tmp-"), std::string(".tmp-x-1"), prefix, "a" + prefix + "-1"})
    vyx::write_file(folder / other, "a user's");
  std::filesystem::create_directory(folder / (prefix + "-folder"));
  const auto removed = vyx::remove_leftovers(folder.path());
  REQUIRE(removed.size() == 1);
  CHECK(removed[0].path.filename().string().starts_with(prefix + "-"));
  CHECK(removed[0].bytes == 2 << 20);
  CHECK(files_in(folder) == 6);
  CHECK(vyx::remove_leftovers(folder.path()).empty());
  CHECK(vyx::remove_leftovers(folder / "missing").empty());
}

TEST_CASE("[core.io] a file whose lock is held stays, as another container's process has one") {
  const TemporaryFolder folder;
  const pid_t dead = ended_process([] {});
  const vyx::AtomicFile living(folder / "mine");
  const auto temporary = std::filesystem::directory_iterator(folder.path())->path();
  const auto elsewhere = folder / (".tmp-" + std::to_string(dead) + "-00000001");
  std::filesystem::create_hard_link(temporary, elsewhere);
  CHECK(vyx::remove_leftovers(folder.path()).empty());
  CHECK(std::filesystem::exists(elsewhere));
}
