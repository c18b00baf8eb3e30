// Zip archives, as NumPy's .npz and PyTorch's .pt are: read without trust, and written. Only what
// these two write is read: one disk, no encryption, no comment, and nothing before, between or
// after the entries.
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/io/files.h"

namespace vyx {

struct ZipEntry {
  std::string name;
  bool deflated = false;              // else stored
  uint32_t crc = 0;                   // CRC-32 of the content
  uint64_t size = 0;                  // of the content
  std::span<const std::byte> packed;  // in the archive's bytes
};

/// An entry's content: in the archive itself when it is stored, inflated here otherwise.
struct ZipContent {
  std::vector<std::byte> inflated;
  std::span<const std::byte> bytes;
};

class ZipArchive {
 public:
  /// Checks the whole directory against the entries' own headers: same names, sizes and sums, no
  /// name twice, none that leaves the folder, no overlap, no gap; and that neither an entry nor all
  /// of them together would inflate to more than 64 MiB and 100 times their packed size. Throws
  /// Error naming `source`, the entry, what was found and what was expected. Copies no content.
  static ZipArchive parse(std::span<const std::byte> bytes, std::string source);

  const std::string& source() const { return source_; }
  /// In the order of the directory.
  const std::vector<ZipEntry>& entries() const { return entries_; }
  const ZipEntry* find(std::string_view name) const;

  /// The content, its CRC-32 checked. Throws Error for a damaged one.
  ZipContent read(const ZipEntry& entry) const;

 private:
  std::string source_;
  std::vector<ZipEntry> entries_;
  std::map<std::string, size_t, std::less<>> index_;
};

/// Writes an archive of stored entries, whose contents begin at multiples of 64 bytes, so that they
/// can be mapped. It appears whole at commit() or not at all; the same calls give the same bytes.
class ZipWriter {
 public:
  explicit ZipWriter(const std::filesystem::path& path) : path_(path.string()), file_(path) {}
  void add(const std::string& name, std::span<const std::byte> content);
  void add(const std::string& name, std::string_view content);
  void commit();

 private:
  std::string path_;
  AtomicFile file_;
  std::string directory_;
  uint64_t count_ = 0;
};

}  // namespace vyx
