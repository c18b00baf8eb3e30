#include "core/base/utf8.h"

namespace vyx {
namespace {

struct Lead {
  size_t length;            // of the whole character; 0: no character begins so
  unsigned char low, high;  // what the second byte may be; later bytes are 80..BF
};

Lead lead_of(unsigned char byte) {
  if (byte < 0x80) return {1, 0, 0};
  if (byte < 0xC2) return {0, 0, 0};  // a continuation, or an overlong form
  if (byte < 0xE0) return {2, 0x80, 0xBF};
  if (byte < 0xF0) {
    return {3, static_cast<unsigned char>(byte == 0xE0 ? 0xA0 : 0x80),
            static_cast<unsigned char>(byte == 0xED ? 0x9F : 0xBF)};  // ED A0.. would be surrogates
  }
  if (byte < 0xF5) {
    return {4, static_cast<unsigned char>(byte == 0xF0 ? 0x90 : 0x80),
            static_cast<unsigned char>(byte == 0xF4 ? 0x8F : 0xBF)};  // not beyond U+10FFFF
  }
  return {0, 0, 0};
}

}  // namespace

Utf8Step utf8_step(std::string_view bytes) {
  const Lead lead = lead_of(static_cast<unsigned char>(bytes[0]));
  if (lead.length == 0) return {.length = 1};
  for (size_t i = 1; i < lead.length; ++i) {
    if (i == bytes.size()) return {.length = i, .cut_off = true};
    const auto byte = static_cast<unsigned char>(bytes[i]);
    const unsigned char low = i == 1 ? lead.low : 0x80, high = i == 1 ? lead.high : 0xBF;
    if (byte < low || byte > high) return {.length = i};
  }
  return {.length = lead.length, .well_formed = true};
}

size_t well_formed_prefix(std::string_view bytes) {
  size_t at = 0;
  while (at < bytes.size()) {
    const Utf8Step step = utf8_step(bytes.substr(at));
    if (!step.well_formed) break;
    at += step.length;
  }
  return at;
}

bool is_utf8(std::string_view text) {
  return well_formed_prefix(text) == text.size();
}

size_t utf8_length(std::string_view text) {
  const Utf8Step step = utf8_step(text);
  return step.well_formed ? step.length : 0;
}

}  // namespace vyx
