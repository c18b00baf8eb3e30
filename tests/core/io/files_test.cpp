// Files appear whole or not at all, whatever system call fails.
#include "tests/test_support.h"

#include "core/io/files.h"
#include "core/io/files_read.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <vector>

using namespace vyx;
using vyx::test::contains;
using vyx::test::error_of;
using vyx::test::TemporaryFolder;

namespace {

namespace fs = std::filesystem;

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

// The n-th call fails with `error` (and all later ones if `persistent`); error 0: it writes short.
// The cleaning up afterwards is not counted: it is what is tested.
class FaultyFileSystem : public FileSystem {
 public:
  FaultyFileSystem(int n, int error, bool persistent)
      : n_(n), error_(error), persistent_(persistent) {}

  int open_exclusive(const char* path) override {
    return fails() ? -1 : FileSystem::open_exclusive(path);
  }
  long write(int fd, const void* data, size_t size) override {
    if (!fails()) return FileSystem::write(fd, data, size);
    return error_ != 0 ? -1 : FileSystem::write(fd, data, size / 2 + 1);
  }
  int fsync(int fd) override { return fails() ? -1 : FileSystem::fsync(fd); }
  int close(int fd) override {
    const bool fail_it = fails();
    const int result = FileSystem::close(fd);  // as Linux: the descriptor is gone either way
    if (!fail_it) return result;
    errno = error_;
    return -1;
  }
  int rename(const char* from, const char* to) override {
    if (fails()) return -1;
    renamed = true;
    return FileSystem::rename(from, to);
  }
  int fsync_directory(const char* path) override {
    return fails() ? -1 : FileSystem::fsync_directory(path);
  }

  bool failed = false, renamed = false;

 private:
  bool fails() {
    const int call = calls_++;
    const bool fail_it = persistent_ ? call >= n_ : call == n_;
    failed = failed || fail_it;
    if (fail_it && error_ != 0) errno = error_;
    return fail_it;
  }

  int n_, error_, calls_ = 0;
  bool persistent_;
};

// What a save is made of: small writes that are gathered, a large one, and small ones again.
void save(const fs::path& path, FileSystem& file_system) {
  AtomicFile file(path, file_system);
  file.write("head");
  file.write(std::string(3 << 20, 'x'));
  for (int i = 0; i < 3; ++i) file.write(std::string(700'000, 'y'));
  file.commit();
  CHECK(file.written() == 4 + (3 << 20) + 2'100'000);
}

std::string saved() {
  return "head" + std::string(3 << 20, 'x') + std::string(2'100'000, 'y');
}

}  // namespace

TEST_CASE("[core.io] a written file is whole, and its folder holds nothing else") {
  const TemporaryFolder folder;
  save(folder / "new", FileSystem::real());
  CHECK(read_text_file(folder / "new") == saved());
  write_file(folder / "new", "replaced");
  CHECK(read_text_file(folder / "new") == "replaced");
  CHECK(names_in(folder.path()) == std::vector<std::string>{"new"});
}

TEST_CASE("[core.io] whichever system call fails, the old file stays and no temporary one does") {
  for (const int error : {ENOSPC, EIO, EDQUOT, EFBIG}) {
    for (const bool persistent : {false, true}) {
      int n = 0;
      for (;; ++n) {
        CAPTURE(error);
        CAPTURE(persistent);
        CAPTURE(n);
        const TemporaryFolder folder;
        write_file(folder / "file", "old");
        FaultyFileSystem faulty(n, error, persistent);
        const std::string message = error_of([&] { save(folder / "file", faulty); });
        CHECK(names_in(folder.path()) == std::vector<std::string>{"file"});
        CHECK(message.empty() != faulty.failed);
        if (!faulty.failed) break;
        if (faulty.renamed) {
          CHECK(contains(message, "/file: written, but its folder cannot be synced ("));
          CHECK(read_text_file(folder / "file") == saved());
        } else {
          CHECK(contains(message, fmt::format("/file: cannot write ({}); nothing was changed",
                                              std::strerror(error))));
          CHECK(read_text_file(folder / "file") == "old");
        }
      }
      CHECK(n == 10);  // open, 5 writes, fsync, close, rename, fsync of the folder
    }
  }
}

TEST_CASE("[core.io] short writes go on, and so do calls that a signal interrupts") {
  for (const int error : {0, EINTR}) {
    for (int n = 0;; ++n) {
      if (error == 0 && (n < 1 || n > 5)) {  // only writes can be short
        if (n > 5) break;
        continue;
      }
      CAPTURE(error);
      CAPTURE(n);
      const TemporaryFolder folder;
      write_file(folder / "file", "old");
      FaultyFileSystem faulty(n, error, false);
      const std::string message = error_of([&] { save(folder / "file", faulty); });
      CHECK(names_in(folder.path()) == std::vector<std::string>{"file"});
      if (error == EINTR && n == 8) {  // a rename may have happened or not: it is not tried twice
        CHECK(contains(message, "nothing was changed"));
        CHECK(read_text_file(folder / "file") == "old");
      } else {
        CHECK(message == "");
        CHECK(read_text_file(folder / "file") == saved());
      }
      if (!faulty.failed) break;
    }
  }
}

TEST_CASE("[core.io] a writer that makes no progress fails") {
  struct Stuck : FileSystem {
    long write(int, const void*, size_t) override { return 0; }
  } stuck;
  const TemporaryFolder folder;
  CHECK(contains(error_of([&] { save(folder / "file", stuck); }),
                 "cannot write (Input/output error)"));
  CHECK(names_in(folder.path()).empty());
}

TEST_CASE("[core.io] without commit nothing changes") {
  const TemporaryFolder folder;
  write_file(folder / "file", "old");
  {
    AtomicFile file(folder / "file");
    file.write(saved());
    CHECK(names_in(folder.path()).size() == 2);
  }
  CHECK(read_text_file(folder / "file") == "old");
  CHECK(names_in(folder.path()) == std::vector<std::string>{"file"});

  AtomicFile file(folder / "file");
  file.commit();
  CHECK(error_of([&] { file.commit(); }) != "");  // and never twice
  CHECK(read_text_file(folder / "file") == "");
}

TEST_CASE("[core.io] targets that are no files are refused, not replaced") {
  const TemporaryFolder folder;
  fs::create_directory(folder / "folder");
  REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
  const auto refusal = [](const fs::path& path) {
    const std::string message = error_of([&] { write_file(path, "new"); });
    CHECK(message == error_of([&] { require_writable(path); }));
    return message;
  };
  CHECK(refusal("/dev/full") ==
        "/dev/full: cannot write (a device, not a regular file); nothing was changed");
  CHECK(refusal("/dev/null") ==
        "/dev/null: cannot write (a device, not a regular file); nothing was changed");
  CHECK(contains(refusal(folder / "folder"), "cannot write (a folder, not a regular file)"));
  CHECK(contains(refusal(folder / "pipe"), "cannot write (a pipe, not a regular file)"));
  CHECK(contains(refusal(folder / "folder/"), "cannot write (no file name"));
  CHECK(contains(refusal(""), "cannot write (no file name"));
  CHECK(contains(refusal(folder / "absent/file"),
                 "cannot write (its folder does not exist; make it first)"));
  CHECK(contains(refusal(folder / std::string(256, 'n')), "cannot write (File name too long)"));
  write_file(folder / "plain", "");
  CHECK(contains(refusal(folder / "plain/file"), "cannot write (Not a directory)"));
  CHECK(names_in(folder.path()) == std::vector<std::string>{"folder", "pipe", "plain"});
}

TEST_CASE("[core.io] require_writable leaves nothing behind and changes nothing") {
  const TemporaryFolder folder;
  require_writable(folder / "file");
  CHECK(names_in(folder.path()).empty());
  write_file(folder / "file", "old");
  require_writable(folder / "file");
  CHECK(read_text_file(folder / "file") == "old");
  CHECK(names_in(folder.path()).size() == 1);
}

TEST_CASE("[core.io] a symbolic link is written through and stays a link") {
  const TemporaryFolder folder;
  fs::create_directory(folder / "real");
  write_file(folder / "real/file", "old");
  fs::create_symlink("real/file", folder / "link");
  fs::create_symlink("link", folder / "link2");
  write_file(folder / "link2", "new");
  CHECK(fs::is_symlink(folder / "link2"));
  CHECK(fs::is_symlink(folder / "link"));
  CHECK(read_text_file(folder / "real/file") == "new");
  CHECK(names_in(folder / "real") == std::vector<std::string>{"file"});

  fs::create_symlink("real/made", folder / "dangling");
  write_file(folder / "dangling", "made");
  CHECK(read_text_file(folder / "real/made") == "made");

  fs::create_symlink("loop", folder / "loop");
  CHECK(contains(error_of([&] { write_file(folder / "loop", ""); }),
                 "/loop: cannot write (Too many levels of symbolic links)"));
  fs::create_symlink("/dev/full", folder / "full");
  CHECK(contains(error_of([&] { write_file(folder / "full", "x"); }),
                 "/full: cannot write (a device"));
}

TEST_CASE("[core.io] a replaced file keeps its mode, and a new one follows the umask") {
  const TemporaryFolder folder;
  const auto mode_of = [&](std::string_view name) {
    return static_cast<unsigned>(fs::status(folder / name).permissions());
  };
  write_file(folder / "secret", "old");
  fs::permissions(folder / "secret", fs::perms(0600));
  write_file(folder / "secret", "new");
  CHECK(mode_of("secret") == 0600);
  const mode_t old_mask = ::umask(027);
  write_file(folder / "made", "");
  ::umask(old_mask);
  CHECK(mode_of("made") == 0640);
}

TEST_CASE("[core.io] inputs are regular files") {
  const TemporaryFolder folder;
  REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
  fs::create_symlink("loop", folder / "loop");
  for (const auto& open : {+[](const fs::path& path) { MappedFile file(path); },
                           +[](const fs::path& path) { read_text_file(path); }}) {
    const auto refusal = [&](const fs::path& path) { return error_of([&] { open(path); }); };
    CHECK(contains(refusal(folder / "pipe"), "/pipe: found a pipe, expected a regular file"));
    CHECK(refusal("/dev/zero") == "/dev/zero: found a device, expected a regular file");
    CHECK(contains(refusal(folder.path()), "found a folder, expected a regular file"));
    CHECK(contains(refusal(folder / "absent"), "/absent: cannot open (No such file or directory)"));
    CHECK(contains(refusal(folder / "loop"),
                   "/loop: cannot open (Too many levels of symbolic links)"));
  }
}

TEST_CASE("[core.io] a mapping holds the file's bytes and can be moved") {
  const TemporaryFolder folder;
  write_file(folder / "file", "bytes");
  write_file(folder / "empty", "");
  MappedFile file(folder / "file");
  CHECK(file.bytes().size() == 5);
  MappedFile other(folder / "empty");
  CHECK(other.bytes().empty());
  other = std::move(file);
  CHECK(static_cast<char>(other.bytes()[4]) == 's');
  CHECK(other.path() == folder / "file");
  const MappedFile third(std::move(other));
  CHECK(third.bytes().size() == 5);
  CHECK(other.bytes().empty());
}

TEST_CASE("[core.io] text is read whole, within a limit, even where the size is not known") {
  const TemporaryFolder folder;
  const std::string text(5000, 't');
  write_file(folder / "file", text);
  CHECK(read_text_file(folder / "file", 5000) == text);
  CHECK(contains(error_of([&] { read_text_file(folder / "file", 4999); }),
                 "/file: found 5000 bytes, expected at most 4999"));
  CHECK(contains(read_text_file("/proc/self/status"), "VmRSS"));
  CHECK(
      contains(error_of([&] { read_text_file("/proc/self/status", 10); }), "expected at most 10"));
  // A sparse file of a terabyte costs nothing to refuse.
  write_file(folder / "sparse", "");
  fs::resize_file(folder / "sparse", uint64_t{1} << 40);
  CHECK(
      contains(error_of([&] { read_text_file(folder / "sparse"); }), "found 1099511627776 bytes"));
}

namespace {

// Runs `body` in a child process and returns what it returned, so that limits and mounts end with
// it.
template <class Body>
std::string in_child(Body&& body) {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    std::string result = body();
    if (::write(ends[1], result.data(), result.size()) < 0) ::_exit(1);
    ::_exit(0);
  }
  ::close(ends[1]);
  std::string result(1 << 16, '\0');
  size_t size = 0;
  for (ssize_t count = 0;
       (count = ::read(ends[0], result.data() + size, result.size() - size)) > 0;)
    size += static_cast<size_t>(count);
  ::close(ends[0]);
  ::waitpid(child, nullptr, 0);
  result.resize(size);
  return result;
}

void put(const char* path, const std::string& text) {
  std::ofstream(path) << text;
}

}  // namespace

TEST_CASE(
    "[core.io] a full disk: the old file stays, the space is free again, and the error says so") {
  const TemporaryFolder folder;
  fs::create_directory(folder / "small");
  const std::string small = folder / "small";
  const std::string outcome = in_child([&]() -> std::string {
    const auto user = ::getuid();
    const auto group = ::getgid();
    if (::unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0) {
      put("/proc/self/setgroups", "deny");
      put("/proc/self/uid_map", fmt::format("0 {} 1", user));
      put("/proc/self/gid_map", fmt::format("0 {} 1", group));
    } else if (::unshare(CLONE_NEWNS) != 0) {
      return "cannot";
    }
    ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
    if (::mount("tmpfs", small.c_str(), "tmpfs", 0, "size=1m") != 0) return "cannot";
    const std::string old(600'000, 'o');
    write_file(small + "/file", old);
    const std::string message =
        error_of([&] { write_file(small + "/file", std::string(600'000, 'n')); });
    const bool intact = read_text_file(small + "/file") == old && names_in(small).size() == 1;
    write_file(small + "/more", std::string(300'000, 'm'));  // the failed file's space is free
    return fmt::format("{} intact={} more={}", message, intact, fs::file_size(small + "/more"));
  });
  if (outcome == "cannot") {
    MESSAGE("skipped: a tmpfs cannot be mounted here");
    return;
  }
  CHECK(outcome == small +
                       "/file: cannot write (No space left on device); nothing was changed "
                       "intact=true more=300000");
}

TEST_CASE(
    "[core.io] what was read is known, by whatever way, and what was written is not among it") {
  const TemporaryFolder folder;
  write_file(folder / "made", "mine");
  std::ofstream(folder / "mapped") << "a";
  std::ofstream(folder / "text") << "b";
  const auto listed = [&](const char* name) {
    const auto files = files_read();
    return std::binary_search(files.begin(), files.end(), (folder / name).string());
  };
  CHECK_FALSE(listed("mapped"));
  const MappedFile mapped(folder.path() / "." / "mapped");
  (void)read_text_file(folder / "text");
  (void)read_text_file(folder / "made");
  (void)error_of([&] { read_text_file(folder / "nowhere"); });
  (void)read_text_file("/proc/self/status");
  CHECK(listed("mapped"));
  CHECK(listed("text"));
  CHECK_FALSE(listed("made"));
  CHECK_FALSE(listed("nowhere"));
  for (const std::string& file : files_read()) CHECK_FALSE(file.starts_with("/proc"));
}

TEST_CASE("[core.io] a limit on the size of files is an error like any other") {
  const TemporaryFolder folder;
  const std::string outcome = in_child([&] {
    ::signal(SIGXFSZ, SIG_IGN);  // as drivers do
    const rlimit limit = {100'000, 100'000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    return error_of([&] { write_file(folder / "file", std::string(600'000, 'n')); });
  });
  CHECK(contains(outcome, "/file: cannot write (File too large); nothing was changed"));
  CHECK(names_in(folder.path()).empty());
}

TEST_CASE("[core.io] a file or folder without permission is refused before the work") {
  const TemporaryFolder folder;
  fs::create_directory(folder / "locked");
  write_file(folder / "protected", "old");
  fs::permissions(folder.path(), fs::perms(0777));
  fs::permissions(folder / "locked", fs::perms(0555));
  fs::permissions(folder / "protected", fs::perms(0444));
  const std::string outcome = in_child([&]() -> std::string {
    if (::getuid() == 0 && (::setgid(65534) != 0 || ::setuid(65534) != 0)) return "cannot";
    return error_of([&] { require_writable(folder / "locked/file"); }) + '\n' +
           error_of([&] { write_file(folder / "protected", "new"); });
  });
  if (outcome == "cannot") {
    MESSAGE("skipped: this user sees no permissions");
    return;
  }
  CHECK(contains(outcome, "/locked/file: cannot write (Permission denied); nothing was changed"));
  CHECK(contains(outcome, "/protected: cannot write (Permission denied); nothing was changed"));
  CHECK(read_text_file(folder / "protected") == "old");
}
