// Text that arrives token by token, given on only in whole UTF-8 characters.
#pragma once
#include <string>
#include <string_view>

namespace vyx {

class Utf8Stream {
 public:
  /// Takes bytes, returns those that end a character. Bytes that can't begin or continue a
  /// character are given on as U+FFFD as soon as that is certain.
  std::string push(std::string_view bytes);
  /// What is left at the end: U+FFFD for an unfinished character.
  std::string finish();

 private:
  std::string pending_;
};

/// `text` with every ill-formed sequence replaced by U+FFFD (the maximal-subpart rule of Unicode,
/// as Python's errors="replace").
std::string valid_utf8(std::string_view text);

}  // namespace vyx
