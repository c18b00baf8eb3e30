#include "models/tokenizer/byte_level.h"

#include <array>

namespace vyx::models {
namespace {

// The highest is U+0143; 68 bytes have no printable Latin-1 character.
constexpr int kCharacters = 256 + 68;

struct Alphabet {
  std::array<int, 256> character{};     // byte -> code point
  std::array<int, kCharacters> byte{};  // code point -> byte, or -1
};

constexpr Alphabet make_alphabet() {
  Alphabet alphabet;
  alphabet.byte.fill(-1);
  // Bytes without a printable character take the code points from U+0100 on, in order.
  int next = 256;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable =
        (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xFF && byte != 0xAD);
    alphabet.character[byte] = printable ? byte : next++;
    alphabet.byte[alphabet.character[byte]] = byte;
  }
  return alphabet;
}

constexpr Alphabet kAlphabet = make_alphabet();

}  // namespace

std::string to_byte_level(std::string_view bytes) {
  std::string token;
  for (const char c : bytes) {
    const int character = kAlphabet.character[static_cast<unsigned char>(c)];
    if (character < 0x80) {
      token += static_cast<char>(character);
    } else {
      token += static_cast<char>(0xC0 | character >> 6);
      token += static_cast<char>(0x80 | (character & 0x3F));
    }
  }
  return token;
}

std::optional<std::string> from_byte_level(std::string_view token) {
  std::string bytes;
  for (size_t i = 0; i < token.size(); ++i) {
    int character = static_cast<unsigned char>(token[i]);
    if (character >= 0x80) {  // the alphabet needs no more than two bytes of UTF-8
      if ((character & 0xE0) != 0xC0 || i + 1 == token.size()) return std::nullopt;
      character = (character & 0x1F) << 6 | (static_cast<unsigned char>(token[++i]) & 0x3F);
    }
    if (character >= kCharacters || kAlphabet.byte[character] < 0) return std::nullopt;
    bytes += static_cast<char>(kAlphabet.byte[character]);
  }
  return bytes;
}

}  // namespace vyx::models
