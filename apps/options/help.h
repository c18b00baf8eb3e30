// What --help prints of a program: its usage, options and examples, and the keys of what --json
// prints; as text and as JSON.
#pragma once
#include <string>
#include <vector>

#include "apps/options/option_table.h"
#include "core/base/json_guard.h"

namespace vyx::apps {

/// Of what every program prints with --json, as the key "version". It rises when a key goes or
/// means something else; new keys don't raise it.
inline constexpr int kResultVersion = 1;

/// What --text takes, in every program that has it.
inline constexpr const char* kTextHelp =
    "text, JSON Lines (.jsonl), or either as .gz (apps/data/README.md)";

/// A key of what --json prints. Those of an object within are written "rows.effect"; lists add
/// nothing to the name.
struct ResultKey {
  std::string name;  // with a "?" behind it: not always there
  std::string help;
  std::string members;  // "shift, kl?": of the object or of each object in the list; "": not listed
};

/// One of the forms that a program's result has: which keys, and when.
struct ResultForm {
  std::string when;  // "with --verify"; "" if there is only one
  std::vector<ResultKey> keys;
};

/// A program, in words.
struct Program {
  std::string name;
  std::string usage;     // follows the name: "SOURCE.gguf --out model.pt"
  std::string summary;   // a sentence or two
  std::string examples;  // whole command lines
  std::vector<ResultForm> results;
};

struct OptionGroup {
  std::string title;
  const std::vector<OptionRow>& rows;
};

/// At most 100 columns wide; what is longer in `usage` and `examples` stays as it is.
std::string help_text(const Program& program, const std::vector<OptionGroup>& groups);

/// {"name", "usage", "summary", "options": [{"name", "type", "many", "required", "help", "value"?,
/// "default"?, "written"? (of paths), "effect"?: conditions}], "version", "results"}.
Json help_json(const Program& program, const std::vector<OptionGroup>& groups);

}  // namespace vyx::apps
