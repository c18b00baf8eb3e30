#include "core/formats/element_type.h"

#include <algorithm>
#include <array>
#include <iterator>

namespace vyx {
namespace {

struct Description {
  std::string_view name;
  uint64_t bits;
};

constexpr std::array<Description, 22> kTypes = {{
    {"BOOL", 8},        {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8},
    {"I8", 8},          {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8},
    {"F8_E5M2FNUZ", 8}, {"I16", 16},    {"U16", 16},    {"F16", 16},    {"BF16", 16},
    {"I32", 32},        {"U32", 32},    {"F32", 32},    {"C64", 64},    {"F64", 64},
    {"I64", 64},        {"U64", 64},
}};
static_assert(kTypes.size() == static_cast<size_t>(ElementType::u64) + 1);

constexpr uint64_t kLimit = uint64_t{1} << 63;

const Description& description(ElementType type) {
  return kTypes[static_cast<size_t>(type)];
}

}  // namespace

std::string_view name_of(ElementType type) {
  return description(type).name;
}
uint64_t bits_of(ElementType type) {
  return description(type).bits;
}

std::optional<ElementType> element_type_from_name(std::string_view name) {
  const auto found = std::find_if(kTypes.begin(), kTypes.end(),
                                  [&](const Description& type) { return type.name == name; });
  if (found == kTypes.end()) return std::nullopt;
  return static_cast<ElementType>(std::distance(kTypes.begin(), found));
}

std::optional<uint64_t> element_count(std::span<const int64_t> shape) {
  uint64_t count = 1;
  for (const int64_t size : shape)
    if (size < 0 || __builtin_mul_overflow(count, static_cast<uint64_t>(size), &count) ||
        count >= kLimit)
      return std::nullopt;
  return count;
}

std::optional<uint64_t> byte_count(ElementType type, std::span<const int64_t> shape) {
  const std::optional<uint64_t> count = element_count(shape);
  uint64_t bits = 0;
  if (!count || __builtin_mul_overflow(*count, bits_of(type), &bits)) return std::nullopt;
  if (bits % 8 != 0) return std::nullopt;
  return bits / 8;
}

}  // namespace vyx
