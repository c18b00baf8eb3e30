// Bytes from outside, checked and made printable: whatever a file holds, an error message stays one clean
// line.
#pragma once
#include <string>
#include <string_view>

namespace vyx {

/// Whether `text` is well-formed UTF-8 (no overlong forms, no surrogates, nothing beyond U+10FFFF).
bool is_utf8(std::string_view text);

/// `text` in double quotes for a message: control characters and malformed bytes as \xNN, cut after some 80
/// bytes.
std::string quote(std::string_view text);

}  // namespace vyx
