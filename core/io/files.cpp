#include "core/io/files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "core/base/error.h"
#include "core/io/files_read.h"
#include "core/io/temporary_files.h"

namespace vyx {
namespace {

constexpr size_t kBufferSize = 1 << 20;

// Repeats a system call while a signal interrupts it.
template <class Call>
auto retry(Call&& call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

const char* kind_of(mode_t mode) {
  switch (mode & S_IFMT) {
    case S_IFREG:
      return "a regular file";
    case S_IFDIR:
      return "a folder";
    case S_IFIFO:
      return "a pipe";
    case S_IFCHR:
    case S_IFBLK:
      return "a device";
    case S_IFSOCK:
      return "a socket";
    default:
      return "something else";
  }
}

// An input, open for reading.
struct Input {
  int fd;
  uint64_t size;

  explicit Input(const std::filesystem::path& path) {
    // O_NONBLOCK: a pipe that nobody writes to must be refused, not waited for.
    fd = retry([&] { return ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK); });
    if (fd < 0) fail("{}: cannot open ({})", path.string(), std::strerror(errno));
    struct stat status = {};
    const int result = ::fstat(fd, &status);
    if (result == 0 && S_ISREG(status.st_mode)) {
      size = static_cast<uint64_t>(status.st_size);
      note_read(path);
      return;
    }
    const int error = errno;
    ::close(fd);
    if (result != 0) fail("{}: cannot open ({})", path.string(), std::strerror(error));
    fail("{}: found {}, expected a regular file", path.string(), kind_of(status.st_mode));
  }
  Input(const Input&) = delete;
  Input& operator=(const Input&) = delete;
  ~Input() { ::close(fd); }
};

[[noreturn]] void fail_unchanged(const std::filesystem::path& path, std::string_view reason) {
  fail("{}: cannot write ({}); nothing was changed", path.string(), reason);
}

std::filesystem::path folder_of(const std::filesystem::path& path) {
  return path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
}

// The file that a write to `path` reaches behind symbolic links: existing, or yet to be made.
std::filesystem::path resolve_links(const std::filesystem::path& path) {
  constexpr int kMaxLinks = 40;  // as the kernel
  std::filesystem::path target = path;
  for (int i = 0; i < kMaxLinks; ++i) {
    std::error_code error;
    const std::filesystem::path next = std::filesystem::read_symlink(target, error);
    if (error) return target;  // not a link
    target = folder_of(target) / next;
  }
  fail_unchanged(path, std::strerror(ELOOP));
}

}  // namespace

int FileSystem::open_exclusive(const char* path) {
  return ::open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0666);
}
long FileSystem::write(int fd, const void* data, size_t size) {
  return ::write(fd, data, size);
}
int FileSystem::fsync(int fd) {
  return ::fsync(fd);
}
int FileSystem::close(int fd) {
  return ::close(fd);
}
int FileSystem::rename(const char* from, const char* to) {
  return std::rename(from, to);
}
int FileSystem::unlink(const char* path) {
  return ::unlink(path);
}

int FileSystem::fsync_directory(const char* path) {
  const int fd = ::open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return -1;
  const int result = ::fsync(fd);
  const int error = errno;
  ::close(fd);
  errno = error;
  return result;
}

FileSystem& FileSystem::real() {
  static FileSystem file_system;
  return file_system;
}

MappedFile::MappedFile(const std::filesystem::path& path) : path_(path) {
  const Input input(path);
  if (input.size == 0) return;  // mmap refuses an empty range
  void* data = ::mmap(nullptr, input.size, PROT_READ, MAP_PRIVATE, input.fd, 0);
  if (data == MAP_FAILED)
    fail("{}: cannot map {} bytes ({})", path.string(), input.size, std::strerror(errno));
  bytes_ = {static_cast<const std::byte*>(data), input.size};
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)), bytes_(std::exchange(other.bytes_, {})) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

std::string read_text_file(const std::filesystem::path& path, uint64_t max_bytes) {
  const Input input(path);
  // Read to the end, not to the size: a file may grow meanwhile, and those of /proc claim to be
  // empty.
  std::string text;
  for (uint64_t have = 0;;) {
    if (std::max(input.size, have) > max_bytes)
      fail("{}: found {} bytes, expected at most {}", path.string(), std::max(input.size, have),
           max_bytes);
    text.resize(have <= input.size ? input.size + 1 : 2 * have);
    const long count =
        retry([&] { return ::read(input.fd, text.data() + have, text.size() - have); });
    if (count < 0) fail("{}: cannot read ({})", path.string(), std::strerror(errno));
    have += static_cast<uint64_t>(count);
    if (count > 0) continue;
    text.resize(have);
    return text;
  }
}

AtomicFile::AtomicFile(std::filesystem::path path, FileSystem& fs)
    : path_(std::move(path)), target_(resolve_links(path_)), fs_(fs) {
  if (!target_.has_filename()) fail_unchanged(path_, "no file name, expected FOLDER/NAME");
  struct stat old = {};
  const bool exists = ::lstat(target_.c_str(), &old) == 0;
  if (exists) {
    if (!S_ISREG(old.st_mode))
      fail_unchanged(path_, fmt::format("{}, not a regular file", kind_of(old.st_mode)));
    // A rename would replace even a file that its owner protected.
    if (::access(target_.c_str(), W_OK) != 0) fail_unchanged(path_, std::strerror(errno));
  } else if (errno != ENOENT) {
    fail_unchanged(path_, std::strerror(errno));
  }

  std::filesystem::path name;
  do {
    name = temporary_name(folder_of(target_));
    remember_temporary(name);
    fd_ = retry([&] { return fs_.open_exclusive(name.c_str()); });
    if (fd_ < 0) forget_temporary(name);
  } while (fd_ < 0 && errno == EEXIST);
  if (fd_ < 0 && errno == ENOENT) fail_unchanged(path_, "its folder does not exist; make it first");
  if (fd_ < 0) fail_unchanged(path_, std::strerror(errno));
  ::flock(fd_, LOCK_EX | LOCK_NB);  // says that its writer lives, also to another container
  temporary_ = std::move(name);
  if (exists && ::fchmod(fd_, old.st_mode & 07777) != 0) fail_and_discard();
}

AtomicFile::~AtomicFile() {
  discard();
}

void AtomicFile::write(std::string_view text) {
  write(std::as_bytes(std::span(text)));
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  written_ += bytes.size();
  if (buffer_.size() + bytes.size() > kBufferSize) flush();
  if (bytes.size() >= kBufferSize) {
    write_through(bytes);
  } else {
    buffer_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
}

void AtomicFile::flush() {
  write_through(std::as_bytes(std::span(buffer_)));
  buffer_.clear();
}

void AtomicFile::write_through(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const long count = retry([&] { return fs_.write(fd_, bytes.data(), bytes.size()); });
    if (count == 0) errno = EIO;  // no progress and no reason: do not spin
    if (count <= 0) fail_and_discard();
    bytes = bytes.subspan(static_cast<size_t>(count));
  }
}

void AtomicFile::commit() {
  flush();
  // A failed fsync is final: the kernel has dropped the pages, and a second call would claim
  // success.
  if (retry([&] { return fs_.fsync(fd_); }) != 0) fail_and_discard();
  // Whatever close returns, the descriptor is gone. EINTR loses nothing, since the data are synced.
  if (fs_.close(std::exchange(fd_, -1)) != 0 && errno != EINTR) fail_and_discard();
  if (fs_.rename(temporary_.c_str(), target_.c_str()) != 0) fail_and_discard();
  forget_temporary(temporary_);
  temporary_.clear();
  note_written(target_);
  // Some file systems cannot sync a folder (EINVAL); nothing more can be done there.
  const std::filesystem::path folder = folder_of(target_);
  if (retry([&] { return fs_.fsync_directory(folder.c_str()); }) != 0 && errno != EINVAL)
    fail("{}: written, but its folder cannot be synced ({}); a power cut could undo it",
         path_.string(), std::strerror(errno));
}

void AtomicFile::fail_and_discard() {
  const int error = errno;
  discard();
  fail_unchanged(path_, std::strerror(error));
}

void AtomicFile::discard() noexcept {
  if (fd_ >= 0) fs_.close(std::exchange(fd_, -1));
  if (!temporary_.empty()) {
    fs_.unlink(temporary_.c_str());
    forget_temporary(temporary_);
  }
  temporary_.clear();
}

void write_file(const std::filesystem::path& path, std::string_view contents) {
  AtomicFile file(path);
  file.write(contents);
  file.commit();
}

void make_folder(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) fail("{}: cannot make this folder ({})", path.string(), error.message());
}

void require_writable(const std::filesystem::path& path) {
  AtomicFile probe(path);
}

}  // namespace vyx
