// The types of numbers that tensors in files are made of, by safetensors' names.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace vyx {

/// In safetensors' own order: its writer puts the data of later types first, so that all are
/// aligned.
enum class ElementType : uint8_t {
  boolean,
  f4,
  f6_e2m3,
  f6_e3m2,
  u8,
  i8,
  f8_e5m2,
  f8_e4m3,
  f8_e8m0,
  f8_e4m3fnuz,
  f8_e5m2fnuz,
  i16,
  u16,
  f16,
  bf16,
  i32,
  u32,
  f32,
  c64,
  f64,
  i64,
  u64,
};

std::string_view name_of(ElementType type);                                // "BF16"
std::optional<ElementType> element_type_from_name(std::string_view name);  // nullopt: no such type
uint64_t bits_of(ElementType type);                                        // of an element: 4 to 64

/// The product of `shape`; nullopt when a size is negative or the product reaches 2^63.
std::optional<uint64_t> element_count(std::span<const int64_t> shape);
/// The bytes that `shape` takes; nullopt also when they reach 2^63 or are not whole (an odd number
/// of 4-bit elements).
std::optional<uint64_t> byte_count(ElementType type, std::span<const int64_t> shape);

}  // namespace vyx
