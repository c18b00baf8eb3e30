// ggml's tensor types: their names and block sizes, and how a block becomes floats. A type is read
// by giving it a Block struct, an `expand` function, and its struct's name in kTypes.
#include <array>
#include <bit>
#include <cstring>

#include "core/base/error.h"
#include "core/formats/gguf.h"

namespace vyx {
namespace {

static_assert(std::endian::native == std::endian::little,
              "GGUF data are little-endian and are read in place");

// Without branches and in signed integers, so that it vectorises. NaNs keep their payload, as in
// NumPy.
float float_of_half(uint16_t half) {
  const int32_t magnitude = half & 0x7FFF;
  const int32_t normal = (magnitude << 13) + ((127 - 15) << 23);
  const int32_t special = (magnitude << 13) + ((255 - 31) << 23);  // infinity and NaN
  const auto subnormal = std::bit_cast<int32_t>(static_cast<float>(magnitude) * 0x1p-24f);
  const int32_t bits = magnitude >= 0x7C00 ? special : magnitude < 0x0400 ? subnormal : normal;
  return std::bit_cast<float>(static_cast<uint32_t>(half & 0x8000) << 16 |
                              static_cast<uint32_t>(bits));
}

struct BlockF32 {
  static constexpr size_t kElements = 1;
  float value;
};
void expand(const BlockF32& block, float* out) {
  *out = block.value;
}

struct BlockF16 {
  static constexpr size_t kElements = 1;
  uint16_t value;
};
void expand(const BlockF16& block, float* out) {
  *out = float_of_half(block.value);
}

struct BlockBf16 {
  static constexpr size_t kElements = 1;
  uint16_t value;
};
void expand(const BlockBf16& block, float* out) {
  *out = std::bit_cast<float>(static_cast<uint32_t>(block.value) << 16);
}

struct BlockQ4_0 {
  static constexpr size_t kElements = 32;
  uint16_t scale;
  uint8_t quants[16];  // the low nibbles are elements 0 to 15, the high ones 16 to 31
};
void expand(const BlockQ4_0& block, float* out) {
  const float scale = float_of_half(block.scale);
  for (int i = 0; i < 16; ++i) out[i] = scale * static_cast<float>((block.quants[i] & 15) - 8);
  for (int i = 0; i < 16; ++i) out[16 + i] = scale * static_cast<float>((block.quants[i] >> 4) - 8);
}

struct BlockQ4_1 {
  static constexpr size_t kElements = 32;
  uint16_t scale, minimum;
  uint8_t quants[16];  // as in Q4_0
};
void expand(const BlockQ4_1& block, float* out) {
  const float scale = float_of_half(block.scale);
  const float minimum = float_of_half(block.minimum);
  for (int i = 0; i < 16; ++i) out[i] = scale * static_cast<float>(block.quants[i] & 15) + minimum;
  for (int i = 0; i < 16; ++i)
    out[16 + i] = scale * static_cast<float>(block.quants[i] >> 4) + minimum;
}

struct BlockQ8_0 {
  static constexpr size_t kElements = 32;
  uint16_t scale;
  int8_t quants[32];
};
void expand(const BlockQ8_0& block, float* out) {
  const float scale = float_of_half(block.scale);
  for (int i = 0; i < 32; ++i) out[i] = scale * static_cast<float>(block.quants[i]);
}

// The bytes are unaligned in general; the copies become plain loads.
template <class Block>
void expand_all(const std::byte* data, size_t blocks, float* out) {
  for (size_t i = 0; i < blocks; ++i) {
    Block block;
    std::memcpy(&block, data + i * sizeof(Block), sizeof(Block));
    expand(block, out + i * Block::kElements);
  }
}

struct TypeTraits {
  GgmlType type;
  std::string_view name;
  GgmlBlock block;
  void (*expand_all)(const std::byte* data, size_t blocks, float* out) = nullptr;
};

template <class Block>
constexpr TypeTraits readable(GgmlType type, std::string_view name) {
  return {type, name, {Block::kElements, sizeof(Block)}, &expand_all<Block>};
}

constexpr TypeTraits kTypes[] = {
    readable<BlockF32>(GgmlType::f32, "F32"),
    readable<BlockF16>(GgmlType::f16, "F16"),
    readable<BlockQ4_0>(GgmlType::q4_0, "Q4_0"),
    readable<BlockQ4_1>(GgmlType::q4_1, "Q4_1"),
    {GgmlType::q5_0, "Q5_0", {32, 22}},
    {GgmlType::q5_1, "Q5_1", {32, 24}},
    readable<BlockQ8_0>(GgmlType::q8_0, "Q8_0"),
    {GgmlType::q8_1, "Q8_1", {32, 40}},
    {GgmlType::q2_k, "Q2_K", {256, 84}},
    {GgmlType::q3_k, "Q3_K", {256, 110}},
    {GgmlType::q4_k, "Q4_K", {256, 144}},
    {GgmlType::q5_k, "Q5_K", {256, 176}},
    {GgmlType::q6_k, "Q6_K", {256, 210}},
    {GgmlType::q8_k, "Q8_K", {256, 292}},
    {GgmlType::iq2_xxs, "IQ2_XXS", {256, 66}},
    {GgmlType::iq2_xs, "IQ2_XS", {256, 74}},
    {GgmlType::iq3_xxs, "IQ3_XXS", {256, 98}},
    {GgmlType::iq1_s, "IQ1_S", {256, 50}},
    {GgmlType::iq4_nl, "IQ4_NL", {32, 18}},
    {GgmlType::iq3_s, "IQ3_S", {256, 110}},
    {GgmlType::iq2_s, "IQ2_S", {256, 82}},
    {GgmlType::iq4_xs, "IQ4_XS", {256, 136}},
    {GgmlType::i8, "I8", {1, 1}},
    {GgmlType::i16, "I16", {1, 2}},
    {GgmlType::i32, "I32", {1, 4}},
    {GgmlType::i64, "I64", {1, 8}},
    {GgmlType::f64, "F64", {1, 8}},
    {GgmlType::iq1_m, "IQ1_M", {256, 56}},
    readable<BlockBf16>(GgmlType::bf16, "BF16"),
    {GgmlType::tq1_0, "TQ1_0", {256, 54}},
    {GgmlType::tq2_0, "TQ2_0", {256, 66}},
    {GgmlType::mxfp4, "MXFP4", {32, 17}},
    {GgmlType::nvfp4, "NVFP4", {64, 36}},
    {GgmlType::q1_0, "Q1_0", {128, 18}},
};

const TypeTraits* find_type(uint32_t type) {
  for (const TypeTraits& traits : kTypes)
    if (static_cast<uint32_t>(traits.type) == type) return &traits;
  return nullptr;
}

const TypeTraits& traits_of(GgmlType type) {
  const TypeTraits* traits = find_type(static_cast<uint32_t>(type));
  if (traits == nullptr)
    fail("ggml type: found {}, expected one that ggml has", static_cast<uint32_t>(type));
  return *traits;
}

}  // namespace

std::string_view name_of(GgmlType type) {
  return traits_of(type).name;
}

std::optional<GgmlBlock> block_of(uint32_t type) {
  const TypeTraits* traits = find_type(type);
  return traits == nullptr ? std::nullopt : std::optional(traits->block);
}

bool can_dequantize(GgmlType type) {
  return traits_of(type).expand_all != nullptr;
}

void dequantize(GgmlType type, std::span<const std::byte> data, std::span<float> out) {
  const TypeTraits& traits = traits_of(type);
  if (traits.expand_all == nullptr)
    fail(
        "dequantize: found type {}, expected F32, F16, BF16, Q4_0, Q4_1 or Q8_0; quantize the "
        "model to one of these",
        traits.name);
  const size_t blocks = out.size() / traits.block.elements;
  if (out.size() % traits.block.elements != 0 || data.size() / traits.block.bytes != blocks ||
      data.size() % traits.block.bytes != 0)
    fail("dequantize: found {} bytes of {} for {} elements, expected {} bytes for each {} elements",
         data.size(), traits.name, out.size(), traits.block.bytes, traits.block.elements);
  traits.expand_all(data.data(), blocks, out.data());
}

}  // namespace vyx
