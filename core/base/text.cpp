#include "core/base/text.h"

#include <fmt/format.h>

#include <cstdint>

#include "core/base/utf8.h"

namespace vyx {
namespace {

constexpr size_t kMaxQuote = 80;

// C0 and C1 controls, which a terminal would obey.
bool is_control(std::string_view character) {
  const auto first = static_cast<uint8_t>(character[0]);
  return character.size() == 1 ? first < 0x20 || first == 0x7F
                               : first == 0xC2 && static_cast<uint8_t>(character[1]) < 0xA0;
}

}  // namespace

std::string quote(std::string_view text) {
  std::string out = "\"";
  while (!text.empty()) {
    const size_t length = utf8_length(text);
    const std::string_view character = text.substr(0, length == 0 ? 1 : length);
    if (out.size() + character.size() > kMaxQuote) return out + "…\"";
    if (length == 0 || is_control(character)) {
      for (const char byte : character) out += fmt::format("\\x{:02x}", static_cast<uint8_t>(byte));
    } else {
      if (character == "\"" || character == "\\") out += '\\';
      out += character;
    }
    text.remove_prefix(character.size());
  }
  return out + '"';
}

std::string with_commas(uint64_t number) {
  std::string digits = std::to_string(number);
  for (size_t i = digits.size(); i > 3; i -= 3) digits.insert(i - 3, 1, ',');
  return digits;
}

}  // namespace vyx
