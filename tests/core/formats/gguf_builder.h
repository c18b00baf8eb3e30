// Writes GGUF files field by field, so that a test can get any of them wrong.
#pragma once
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "core/formats/gguf.h"

namespace vyx::test {

class GgufBuilder {
 public:
  /// A header: the magic, the version, and how many tensors and keys follow.
  static GgufBuilder header(uint64_t tensors, uint64_t keys, uint32_t version = 3) {
    GgufBuilder file;
    file.raw("GGUF").u32(version).u64(tensors).u64(keys);
    return file;
  }

  GgufBuilder& raw(std::string_view bytes) {
    bytes_ += bytes;
    return *this;
  }
  GgufBuilder& u8(uint8_t value) { return put(value); }
  GgufBuilder& u16(uint16_t value) { return put(value); }
  GgufBuilder& u32(uint32_t value) { return put(value); }
  GgufBuilder& u64(uint64_t value) { return put(value); }
  GgufBuilder& text(std::string_view value) { return u64(value.size()).raw(value); }

  /// A key and the type of its value, which is to follow.
  GgufBuilder& key(std::string_view name, uint32_t type) { return text(name).u32(type); }
  /// A tensor's entry in the directory.
  GgufBuilder& tensor(std::string_view name, std::initializer_list<uint64_t> shape, uint32_t type,
                      uint64_t offset) {
    text(name).u32(static_cast<uint32_t>(shape.size()));
    for (const uint64_t size : shape) u64(size);
    return u32(type).u64(offset);
  }
  /// Zeros up to the next multiple of `alignment`, then `size` bytes of data.
  GgufBuilder& data(size_t size, size_t alignment = 32) {
    bytes_.resize((bytes_.size() + alignment - 1) / alignment * alignment + size);
    return *this;
  }

  const std::string& bytes() const { return bytes_; }

 private:
  template <class T>
  GgufBuilder& put(T value) {
    char bytes[sizeof(T)];
    std::memcpy(bytes, &value, sizeof(T));
    return raw({bytes, sizeof(T)});
  }

  std::string bytes_;
};

inline Gguf parse(std::string_view bytes) {
  return Gguf::parse(std::as_bytes(std::span(bytes)), "x.gguf");
}
inline Gguf parse(const GgufBuilder& file) {
  return parse(file.bytes());
}

}  // namespace vyx::test
