// GPT-2's byte alphabet: vocabularies are written in JSON, so each of the 256 bytes has a printable
// character of its own (Radford et al. 2019, https://github.com/openai/gpt-2). "Ġthe" is " the".
#pragma once
#include <optional>
#include <string>
#include <string_view>

namespace vyx::models {

/// Bytes as they stand in a vocabulary.
std::string to_byte_level(std::string_view bytes);

/// The bytes of a token as it stands in a vocabulary; nullopt for a character that is not of the
/// alphabet.
std::optional<std::string> from_byte_level(std::string_view token);

}  // namespace vyx::models
