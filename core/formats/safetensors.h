// safetensors (https://github.com/huggingface/safetensors): named tensors in one file, without
// code. Read without trust, and written as a stream. A Safetensors is a view: it holds the
// directory, and its tensors' data stay in the bytes that it was parsed from.
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/formats/element_type.h"
#include "core/io/files.h"

namespace vyx {

/// A tensor's entry in the directory.
struct SafetensorsEntry {
  std::string name;
  ElementType type = ElementType::f32;
  std::vector<int64_t> shape;  // the slowest-varying dimension first; empty: a scalar
};

/// An entry and its data: little-endian, in C order, as many bytes as the entry takes. In a file
/// their offset need not be a multiple of the element's size: copy them before use.
struct SafetensorsTensor : SafetensorsEntry {
  std::span<const std::byte> data;
};

/// Free text by key: the header's `__metadata__`.
using SafetensorsMetadata = std::map<std::string, std::string>;

class Safetensors {
 public:
  /// Parses and checks the whole directory: every byte of the data belongs to exactly one tensor.
  /// `source` names the file in errors, which name the tensor, the field, what was found and what
  /// was expected. Copies no data.
  static Safetensors parse(std::span<const std::byte> bytes, std::string source);

  const std::string& source() const { return source_; }
  const SafetensorsMetadata& metadata() const { return metadata_; }
  /// In the order of their data.
  const std::vector<SafetensorsTensor>& tensors() const { return tensors_; }
  const SafetensorsTensor* find(std::string_view name) const;
  const SafetensorsTensor& tensor(std::string_view name) const;  // throws Error naming it

 private:
  std::string source_;
  SafetensorsMetadata metadata_;
  std::vector<SafetensorsTensor> tensors_;
  std::map<std::string, size_t, std::less<>> index_;
};

/// A mapped safetensors file with its directory.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path)
      : file_(path), safetensors_(Safetensors::parse(file_.bytes(), path.string())) {}
  const Safetensors& operator*() const { return safetensors_; }
  const Safetensors* operator->() const { return &safetensors_; }
  std::span<const std::byte> bytes() const { return file_.bytes(); }

 private:
  MappedFile file_;
  Safetensors safetensors_;
};

/// Writes a file whose directory is known and whose data come piece by piece, so that a file of any
/// size takes no memory. The file appears whole at commit() or not at all; the same calls give the
/// same bytes.
class SafetensorsWriter {
 public:
  /// Throws Error naming `path` for entries that could not be read back (names given twice or not
  /// UTF-8, …).
  SafetensorsWriter(const std::filesystem::path& path, const std::vector<SafetensorsEntry>& entries,
                    const SafetensorsMetadata& metadata = {}, FileSystem& fs = FileSystem::real());

  /// The next bytes of the data, which are the entries' in their order, without gaps. Throws Error
  /// beyond the last.
  void write(std::span<const std::byte> data);
  /// Throws Error while data are missing.
  void commit();

 private:
  std::string path_;
  AtomicFile file_;
  uint64_t missing_ = 0;  // bytes of data
};

/// All at once, in the order that safetensors' own writer gives them: by type (8-byte types first),
/// then by name.
void write_safetensors(const std::filesystem::path& path, std::vector<SafetensorsTensor> tensors,
                       const SafetensorsMetadata& metadata = {});

}  // namespace vyx
