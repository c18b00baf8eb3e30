// Cuts text into the words within which BPE merges: the pre_tokenizer part of tokenizer.json.
#pragma once
#include <string_view>
#include <vector>

#include "core/base/json_guard.h"
#include "models/tokenizer/regex.h"

namespace vyx::models {

class PreTokenizer {
 public:
  /// `node` is tokenizer.json's "pre_tokenizer": ByteLevel, alone or last in a Sequence of Digits
  /// and Split. Anything else is an Error that names it and `source`.
  static PreTokenizer from_json(const Json& node, std::string_view source);

  /// The words of `text`, which is well-formed UTF-8, in order. They cover it, unless a Split has
  /// the behavior Removed.
  std::vector<std::string_view> split(std::string_view text, SearchBudget& budget) const;

 private:
  /// Every kind comes down to a pattern: matches and what lies between them become pieces, which
  /// the next step cuts further.
  struct Step {
    Regex regex;
    bool keep_matches = true, keep_gaps = true;
  };

  void add(const Json& node, std::string_view source);

  std::vector<Step> steps_;
  bool byte_level_ = false;  // a ByteLevel has been seen: nothing may follow
};

}  // namespace vyx::models
