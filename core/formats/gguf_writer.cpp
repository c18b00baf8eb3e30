#include <cstring>
#include <type_traits>

#include "core/base/error.h"
#include "core/base/text.h"
#include "core/formats/gguf.h"

namespace vyx {
namespace {

constexpr size_t kAlignment = 32;
constexpr uint32_t kArrayType = 9;

// GGUF numbers its types in the order of our variants; only the array stands elsewhere, in the
// middle.
uint32_t type_number(size_t index) {
  return static_cast<uint32_t>(index < kArrayType ? index : index + 1);
}

size_t padding_after(size_t size) {
  return (kAlignment - size % kAlignment) % kAlignment;
}

template <class T>
requires std::is_arithmetic_v<T>
void put(std::string& out, T value) {
  char bytes[sizeof(T)];
  std::memcpy(bytes, &value, sizeof(T));
  out.append(bytes, sizeof(T));
}

void put(std::string& out, bool value) {
  out += value ? '\1' : '\0';
}

void put(std::string& out, const std::string& text) {
  put<uint64_t>(out, text.size());
  out += text;
}

void put(std::string& out, const GgufArray& array) {
  put<uint32_t>(out, type_number(array.index()));
  std::visit(
      [&](const auto& elements) {
        using Element = typename std::decay_t<decltype(elements)>::value_type;
        put<uint64_t>(out, elements.size());
        for (const Element& element : elements) put(out, element);
      },
      array);
}

void put(std::string& out, const GgufValue& value) {
  const bool is_array = std::holds_alternative<GgufArray>(value);
  put<uint32_t>(out, is_array ? kArrayType : type_number(value.index()));
  std::visit([&](const auto& held) { put(out, held); }, value);
}

// Everything before the data. The offsets of the tensors are the running sum of their padded sizes.
std::string directory(const GgufMetadata& metadata, const std::vector<GgufTensorData>& tensors) {
  std::string out = "GGUF";
  put<uint32_t>(out, 3);
  put<uint64_t>(out, tensors.size());
  put<uint64_t>(out, metadata.size());
  for (const auto& [key, value] : metadata) {
    put(out, key);
    put(out, value);
  }
  uint64_t offset = 0;
  for (const GgufTensorData& tensor : tensors) {
    put(out, tensor.name);
    put<uint32_t>(out, static_cast<uint32_t>(tensor.shape.size()));
    for (const uint64_t size : tensor.shape) put<uint64_t>(out, size);
    put<uint32_t>(out, static_cast<uint32_t>(tensor.type));
    put<uint64_t>(out, offset);
    offset += tensor.data.size() + padding_after(tensor.data.size());
  }
  out.append(padding_after(out.size()), '\0');
  return out;
}

void check_tensor(const GgufTensorData& tensor, const std::string& source) {
  const auto block = block_of(static_cast<uint32_t>(tensor.type));
  if (!block)
    fail("{}: tensor {}: found type {}, expected one that ggml has", source, quote(tensor.name),
         static_cast<uint32_t>(tensor.type));
  uint64_t elements = 1;
  bool fits = tensor.data.size() % block->bytes == 0;
  for (const uint64_t size : tensor.shape)
    fits = fits && !__builtin_mul_overflow(elements, size, &elements);
  if (!fits || tensor.data.size() / block->bytes * block->elements != elements)
    fail("{}: tensor {}: found {} bytes of {}, expected what its shape [{}] takes", source,
         quote(tensor.name), tensor.data.size(), name_of(tensor.type),
         fmt::join(tensor.shape, ", "));
}

// Hands the file to `write` piece by piece. The parser itself checks the directory first: what we
// write can be read.
template <class Write>
void emit(const std::string& source, const GgufMetadata& metadata,
          const std::vector<GgufTensorData>& tensors, Write&& write) {
  for (const auto& [key, value] : metadata)
    if (key == "general.alignment" && value != GgufValue(uint32_t{kAlignment}))
      fail("{}: metadata {}: expected u32 {}, which is what vyx writes; leave it out", source,
           quote(key), kAlignment);
  for (const GgufTensorData& tensor : tensors) check_tensor(tensor, source);
  const std::string head = directory(metadata, tensors);
  uint64_t size = head.size();
  for (const GgufTensorData& tensor : tensors)
    size += tensor.data.size() + padding_after(tensor.data.size());
  Gguf::parse_directory(std::as_bytes(std::span(head)), size, source);

  write(head);
  const std::string zeros(kAlignment, '\0');
  for (const GgufTensorData& tensor : tensors) {
    write(std::string_view(reinterpret_cast<const char*>(tensor.data.data()), tensor.data.size()));
    write(std::string_view(zeros).substr(0, padding_after(tensor.data.size())));
  }
}

}  // namespace

void write_gguf(const std::filesystem::path& path, const GgufMetadata& metadata,
                const std::vector<GgufTensorData>& tensors) {
  AtomicFile file(path);
  emit(path.string(), metadata, tensors, [&](std::string_view bytes) { file.write(bytes); });
  file.commit();
}

std::string gguf_bytes(const GgufMetadata& metadata, const std::vector<GgufTensorData>& tensors) {
  std::string out;
  emit("gguf", metadata, tensors, [&](std::string_view bytes) { out += bytes; });
  return out;
}

}  // namespace vyx
