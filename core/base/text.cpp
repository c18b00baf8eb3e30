#include "core/base/text.h"

#include <fmt/format.h>

#include <cstdint>

#include "core/base/utf8.h"

namespace vyx {
namespace {

constexpr size_t kMaxQuote = 80;

// The code point of a well-formed character of at most three bytes; of longer ones, some larger
// one.
uint32_t code_of(std::string_view character) {
  const auto byte = [&](size_t i) { return uint32_t{static_cast<uint8_t>(character[i])}; };
  if (character.size() == 1) return byte(0);
  if (character.size() == 2) return (byte(0) & 0x1F) << 6 | (byte(1) & 0x3F);
  if (character.size() == 3)
    return (byte(0) & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F);
  return 0x10000;
}

// C0 and C1 controls, which a terminal would obey; separators of lines and controls of direction
// (UAX #9; Boucher and Anderson, Trojan Source, 2021), which make a text look like another.
bool is_control(uint32_t code) {
  return code < 0x20 || (code >= 0x7F && code < 0xA0) || (code >= 0x2028 && code <= 0x202E) ||
         (code >= 0x2066 && code <= 0x2069);
}

}  // namespace

std::string quote(std::string_view text) {
  std::string out = "\"";
  while (!text.empty()) {
    const size_t length = utf8_length(text);
    const std::string_view character = text.substr(0, length == 0 ? 1 : length);
    if (out.size() + character.size() > kMaxQuote) return out + "…\"";
    if (length == 0 || is_control(code_of(character))) {
      for (const char byte : character) out += fmt::format("\\x{:02x}", static_cast<uint8_t>(byte));
    } else {
      if (character == "\"" || character == "\\") out += '\\';
      out += character;
    }
    text.remove_prefix(character.size());
  }
  return out + '"';
}

std::string printable(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const size_t length = utf8_length(text);
    const std::string_view character = text.substr(0, length == 0 ? 1 : length);
    const uint32_t code = length == 0 ? 0 : code_of(character);
    if (length == 0) {
      out += fmt::format("\\x{:02x}", static_cast<uint8_t>(character[0]));
    } else if (is_control(code) && code != '\n' && code != '\t') {
      out += fmt::format("\\u{:04x}", code);
    } else {
      out += character;
    }
    text.remove_prefix(character.size());
  }
  return out;
}

std::string with_commas(uint64_t number) {
  std::string digits = std::to_string(number);
  for (size_t i = digits.size(); i > 3; i -= 3) digits.insert(i - 3, 1, ',');
  return digits;
}

}  // namespace vyx
