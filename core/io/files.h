// Files as vyx reads and writes them: inputs are regular files, mapped or read within a limit;
// outputs appear whole or not at all. Everything that vyx writes goes through AtomicFile.
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace vyx {

/// The system calls behind AtomicFile, so that tests can fail the n-th one. Each returns what the
/// call returns and leaves errno as the call does.
class FileSystem {
 public:
  virtual ~FileSystem() = default;
  // With O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, mode 0666 & ~umask.
  virtual int open_exclusive(const char* path);
  virtual long write(int fd, const void* data, size_t size);
  virtual int fsync(int fd);
  virtual int close(int fd);
  virtual int rename(const char* from, const char* to);
  virtual int unlink(const char* path);
  virtual int fsync_directory(const char* path);

  static FileSystem& real();
};

/// A read-only private mapping of a regular file. Throws Error for anything else (a folder, a FIFO,
/// a device). A file that another program shortens while it is mapped ends this program (SIGBUS):
/// the price of not copying it.
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);
  MappedFile(MappedFile&&) noexcept;
  MappedFile& operator=(MappedFile&&) noexcept;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return bytes_; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  std::span<const std::byte> bytes_;
};

/// The whole text of a regular file. Throws Error when it is larger than `max_bytes`.
std::string read_text_file(const std::filesystem::path& path, uint64_t max_bytes = 64u << 20);

/// A file that is written whole or not at all: a temporary file beside it, checked writes, fsync,
/// rename, fsync of the folder. Without commit() the destructor removes the temporary file and the
/// old file stays as it was. After an error no byte of the target has changed and the temporary
/// file is gone; the one exception is a folder that cannot be synced after the rename, and its
/// message says that the file is written. A symbolic link is followed and stays; an existing target
/// must be a regular, writable file and keeps its mode.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path path, FileSystem& fs = FileSystem::real());
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);
  void commit();
  uint64_t written() const { return written_; }

 private:
  [[noreturn]] void fail_and_discard();
  void discard() noexcept;
  void write_through(std::span<const std::byte> bytes);
  void flush();

  std::filesystem::path path_;    // as the caller named it, for messages
  std::filesystem::path target_;  // behind symbolic links
  // In the target's folder, so that rename cannot cross file systems.
  std::filesystem::path temporary_;
  FileSystem& fs_;
  int fd_ = -1;
  uint64_t written_ = 0;
  std::string buffer_;  // small writes, gathered
};

/// AtomicFile in one call.
void write_file(const std::filesystem::path& path, std::string_view contents);

/// Makes the folder and those above it where they are missing. Throws Error when it cannot.
void make_folder(const std::filesystem::path& path);

/// Throws Error now if `path` could not be created later (no such folder, no permission), so that a
/// driver fails at once and not after minutes of work. Leaves nothing behind.
void require_writable(const std::filesystem::path& path);

}  // namespace vyx
