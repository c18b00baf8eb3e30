// A Jinja template taken apart without running it, so that templates which differ in spelling alone
// compare equal.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace vyx::models {

struct TemplatePart {
  enum class Kind {
    text,       // what is written as it stands
    value,      // {{ … }} that is no string literal: its tokens, a space between them
    statement,  // {% … %}: likewise
  };
  Kind kind = Kind::text;
  std::string spelling;

  friend bool operator==(const TemplatePart&, const TemplatePart&) = default;
};

/// The parts of a template under the settings of Hugging Face's (trim_blocks, lstrip_blocks):
///
///     {{ 'a' + m.role ~ "b" }}c   →   text "a", value m [ "role" ], text "bc"
///
/// String literals become text and join it, `x.y` is spelled `x [ "y" ]`, comments vanish, and the
/// variable of `for … in messages` is called message. nullopt for what does not lex.
std::optional<std::vector<TemplatePart>> template_parts(std::string_view jinja);

}  // namespace vyx::models
