// NumPy's .npy files (numpy.lib.format, versions 1 to 3): one array of numbers, little-endian, in C
// or in Fortran order.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/formats/element_type.h"

namespace vyx {

struct NpyArray {
  ElementType type = ElementType::f32;
  std::vector<int64_t> shape;
  std::span<const std::byte> data;  // in the bytes that it was parsed from
  bool fortran_order = false;       // its first index is the one that runs fastest in `data`
};

/// Throws Error naming `source` for anything else: big-endian numbers, objects, more or fewer data
/// than the shape says.
NpyArray parse_npy(std::span<const std::byte> bytes, std::string_view source);

/// The header of an array, whose data follow: float16, float32, float64, integers or booleans.
std::string npy_header(ElementType type, std::span<const int64_t> shape);

}  // namespace vyx
