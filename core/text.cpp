#include "core/text.h"

#include <fmt/format.h>

#include <cstdint>

namespace vyx {
namespace {

constexpr size_t kMaxQuote = 80;

// C0 and C1 controls, which a terminal would obey.
bool is_control(std::string_view character) {
  const auto first = static_cast<uint8_t>(character[0]);
  return character.size() == 1 ? first < 0x20 || first == 0x7F : first == 0xC2 && static_cast<uint8_t>(character[1]) < 0xA0;
}

}  // namespace

size_t utf8_length(std::string_view text) {
  const auto lead = static_cast<uint8_t>(text[0]);
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() < length) return 0;
  // The second byte rules out overlong forms (E0, F0), surrogates (ED) and what lies beyond U+10FFFF (F4).
  const auto second = static_cast<uint8_t>(text[1]);
  const uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  if (second < low || second > high) return 0;
  for (size_t i = 2; i < length; ++i)
    if ((static_cast<uint8_t>(text[i]) & 0xC0) != 0x80) return 0;
  return length;
}

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const size_t length = utf8_length(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

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
