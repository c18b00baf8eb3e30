// Bytes from outside, checked and made printable: whatever a file holds, an error message stays one
// clean line.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace vyx {

/// `text` in double quotes for a message: control characters and malformed bytes as \xNN, cut after
/// some 80 bytes.
std::string quote(std::string_view text);

/// 1234567 as "1,234,567".
std::string with_commas(uint64_t number);

}  // namespace vyx
