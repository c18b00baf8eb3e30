// Pickles, piece by piece.
#pragma once
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

namespace vyx::test {

/// (GCC 12 warns falsely of `"…" + std::string()`.)
inline std::string join(std::initializer_list<std::string_view> parts) {
  std::string whole;
  for (const std::string_view part : parts) whole += part;
  return whole;
}

inline std::string little(uint32_t value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

/// The opcode of a text.
inline std::string text(std::string_view content) {
  return join({"X", little(static_cast<uint32_t>(content.size())), content});
}

}  // namespace vyx::test
