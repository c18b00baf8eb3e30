// Bytes that should be UTF-8, step by step: a step is a well-formed character or an ill-formed
// sequence.
#pragma once
#include <cstddef>
#include <string_view>

namespace vyx {

struct Utf8Step {
  size_t length = 0;         // bytes of this step, at least 1
  bool well_formed = false;  // otherwise a maximal subpart: what Unicode shows as one U+FFFD
  bool cut_off = false;      // ill-formed only because the bytes end here
};

/// The step at the front of `bytes`, which must not be empty (Unicode 15, table 3-7 and
/// section 3.9, U+FFFD substitution).
Utf8Step utf8_step(std::string_view bytes);

/// The length of the well-formed text at the front of `bytes`.
size_t well_formed_prefix(std::string_view bytes);

/// Whether `text` is well-formed UTF-8 (no overlong forms, no surrogates, nothing beyond U+10FFFF).
bool is_utf8(std::string_view text);

/// The bytes of the UTF-8 character that `text`, which is not empty, begins with; 0 when it is
/// malformed.
size_t utf8_length(std::string_view text);

}  // namespace vyx
