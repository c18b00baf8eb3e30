// Bytes from outside, checked and made printable: whatever a file holds, an error message stays one
// clean line.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace vyx {

/// `text` in double quotes for a message: malformed bytes and what `printable` escapes as \xNN, cut
/// after some 80 bytes.
std::string quote(std::string_view text);

/// `text` as a terminal may see it: control characters but line ends and tabs, which could move the
/// cursor or run its commands, and controls of direction, which could show a name as another one,
/// as \uNNNN; malformed bytes as \xNN. Inside a JSON string \uNNNN is the character itself, so that
/// JSON means the same.
std::string printable(std::string_view text);

/// 1234567 as "1,234,567".
std::string with_commas(uint64_t number);

}  // namespace vyx
