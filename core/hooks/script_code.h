// TorchScript's source code as tokens, within bounds: LibTorch's parser and compiler recurse
// without any, and a stack that overflows cannot be caught. Internal to core.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace vyx {

struct ScriptToken {
  enum class Kind : uint8_t { name, text, number, sign };
  Kind kind = Kind::sign;
  std::string_view text;  // of a text, what is between its quotes
  uint32_t line = 1;
  bool outer = false;  // the first of a line that is not indented
};

/// The tokens of `code` without comments. Throws Error naming `source` and the line: for brackets,
/// blocks and expressions that nest deeper than any program that was written, and for strings and
/// type comments that LibTorch's lexer reads and ours does not.
std::vector<ScriptToken> script_tokens(std::string_view code, const std::string& source);

}  // namespace vyx
