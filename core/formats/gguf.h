// GGUF, versions 2 and 3 (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md): read without
// trust, and written. A Gguf is a view: it holds the directory, and its tensors' data stay in the
// bytes that it was parsed from.
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/io/files.h"

namespace vyx {

/// ggml's tensor types, with ggml's numbers. All that ggml has are known by name and size;
/// `can_dequantize` says which vyx reads.
// clang-format off
enum class GgmlType : uint32_t {
  f32 = 0, f16 = 1, q4_0 = 2, q4_1 = 3, q5_0 = 6, q5_1 = 7, q8_0 = 8, q8_1 = 9, q2_k = 10,
  q3_k = 11, q4_k = 12, q5_k = 13, q6_k = 14, q8_k = 15, iq2_xxs = 16, iq2_xs = 17, iq3_xxs = 18,
  iq1_s = 19, iq4_nl = 20, iq3_s = 21, iq2_s = 22, iq4_xs = 23, i8 = 24, i16 = 25, i32 = 26,
  i64 = 27, f64 = 28, iq1_m = 29, bf16 = 30, tq1_0 = 34, tq2_0 = 35, mxfp4 = 39, nvfp4 = 40,
  q1_0 = 41,
};
// clang-format on

std::string_view name_of(GgmlType type);  // "Q4_1"
struct GgmlBlock {
  uint64_t elements, bytes;
};
// nullopt: no such type (or one that ggml removed).
std::optional<GgmlBlock> block_of(uint32_t type);
bool can_dequantize(GgmlType type);

/// Expands `data` of `type` to `out` (data.size() == out.size() / block elements × block bytes, or
/// Error). Bit for bit what the Python package gguf gives, but for the payload of a sum of two
/// NaNs.
void dequantize(GgmlType type, std::span<const std::byte> data, std::span<float> out);

/// A metadata value. Arrays hold one element type; arrays of arrays are refused.
using GgufArray = std::variant<std::vector<uint8_t>, std::vector<int8_t>, std::vector<uint16_t>,
                               std::vector<int16_t>, std::vector<uint32_t>, std::vector<int32_t>,
                               std::vector<float>, std::vector<bool>, std::vector<std::string>,
                               std::vector<uint64_t>, std::vector<int64_t>, std::vector<double>>;
using GgufValue = std::variant<uint8_t, int8_t, uint16_t, int16_t, uint32_t, int32_t, float, bool,
                               std::string, uint64_t, int64_t, double, GgufArray>;
using GgufMetadata = std::vector<std::pair<std::string, GgufValue>>;  // in file order
std::string type_name(const GgufValue& value);  // "u32", "[str]": for messages and vyx-inspect

struct GgufTensor {
  std::string name;
  std::vector<uint64_t> shape;  // as ggml has it: the fastest-varying dimension first
  GgmlType type;
  uint64_t offset;  // of the data, in the file
  std::span<const std::byte> data;

  uint64_t elements() const;
  uint64_t bytes() const;  // that the data take
};

class Gguf {
 public:
  /// Parses and checks the whole directory. `source` names the file in errors, which give the byte
  /// offset, the field, what was found and what was expected. Allocates in proportion to
  /// bytes.size(), whatever the file claims.
  static Gguf parse(std::span<const std::byte> bytes, std::string source);
  /// The same for the first bytes of a file of `file_size` bytes, the directory at least: the
  /// tensors have no data.
  static Gguf parse_directory(std::span<const std::byte> bytes, uint64_t file_size,
                              std::string source);

  const std::string& source() const { return source_; }
  uint32_t version() const { return version_; }
  const GgufMetadata& metadata() const { return metadata_; }
  const std::vector<GgufTensor>& tensors() const { return tensors_; }

  const GgufValue* find(std::string_view key) const;
  const GgufTensor* find_tensor(std::string_view name) const;
  const GgufTensor& tensor(std::string_view name) const;  // throws Error naming the tensor

  /// Required metadata, of any numeric width that holds the value; throws Error naming the key, its
  /// type and the range.
  std::string string(std::string_view key) const;
  uint64_t unsigned_integer(std::string_view key, uint64_t min, uint64_t max) const;
  double number(std::string_view key) const;  // finite
  /// The same for arrays of any width. Numbers may be integers.
  std::vector<int64_t> integers(std::string_view key) const;
  std::vector<double> numbers(std::string_view key) const;
  // Exactly that element type.
  template <class T>
  const std::vector<T>& array(std::string_view key) const;

 private:
  std::string source_;
  uint32_t version_ = 0;
  GgufMetadata metadata_;
  std::vector<GgufTensor> tensors_;
  std::map<std::string, size_t, std::less<>> key_index_, tensor_index_;
};

/// A mapped GGUF file with its directory.
class GgufFile {
 public:
  explicit GgufFile(const std::filesystem::path& path)
      : file_(path), gguf_(Gguf::parse(file_.bytes(), path.string())) {}
  const Gguf& operator*() const { return gguf_; }
  const Gguf* operator->() const { return &gguf_; }
  std::span<const std::byte> bytes() const { return file_.bytes(); }

 private:
  MappedFile file_;
  Gguf gguf_;
};

/// A tensor to be written; `data` is raw bytes of `type`.
struct GgufTensorData {
  std::string name;
  std::vector<uint64_t> shape;  // the fastest-varying dimension first
  GgmlType type = GgmlType::f32;
  std::span<const std::byte> data;
};

/// Writes GGUF version 3, aligned to 32 bytes, atomically. What Gguf::parse would refuse is not
/// written.
void write_gguf(const std::filesystem::path& path, const GgufMetadata& metadata,
                const std::vector<GgufTensorData>& tensors);
/// The same bytes in memory, for tests.
std::string gguf_bytes(const GgufMetadata& metadata, const std::vector<GgufTensorData>& tensors);

}  // namespace vyx
