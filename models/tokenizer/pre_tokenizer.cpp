#include "models/tokenizer/pre_tokenizer.h"

#include <string>

#include "core/base/error.h"
#include "core/base/text.h"

namespace vyx::models {
namespace {

// GPT-2's, built into `tokenizers`' ByteLevel: contractions, words, numbers and symbols with one
// space before, blanks.
constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

Regex split_regex(const Json& node, std::string_view source) {
  const Json& pattern = node.contains("pattern") ? node["pattern"] : node;
  if (pattern.is_object() && pattern.contains("Regex")) {
    return Regex::from_oniguruma(json_string(pattern, "Regex", source), source);
  }
  if (pattern.is_object() && pattern.contains("String")) {
    return Regex::literal(json_string(pattern, "String", source), source);
  }
  fail("{}: a Split pre_tokenizer has no pattern of the kind Regex or String", source);
}

}  // namespace

PreTokenizer PreTokenizer::from_json(const Json& node, std::string_view source) {
  PreTokenizer pre_tokenizer;
  pre_tokenizer.add(node, source);
  if (!pre_tokenizer.byte_level_) {
    fail("{}: the pre_tokenizer has no ByteLevel; vyx reads byte-level BPE", source);
  }
  return pre_tokenizer;
}

void PreTokenizer::add(const Json& node, std::string_view source) {
  if (!node.is_object()) {
    fail("{}: a pre_tokenizer is {}, expected an object such as {{\"type\": \"ByteLevel\"}}",
         source, node.type_name());
  }
  if (byte_level_) fail("{}: a pre_tokenizer follows ByteLevel, which must be the last", source);
  const std::string type = json_string(node, "type", source);
  if (type == "Sequence") {
    if (!node.contains("pretokenizers") || !node["pretokenizers"].is_array()) {
      fail("{}: a Sequence pre_tokenizer has no list of pretokenizers", source);
    }
    for (const Json& part : node["pretokenizers"]) add(part, source);
  } else if (type == "ByteLevel") {
    if (json_bool(node, "add_prefix_space", source)) {
      fail(
          "{}: ByteLevel with add_prefix_space is not supported: decoding could not tell the added "
          "space",
          source);
    }
    if (!node.contains("use_regex") || json_bool(node, "use_regex", source)) {
      steps_.push_back({.regex = Regex::from_oniguruma(kGpt2Pattern, source)});
    }
    byte_level_ = true;
  } else if (type == "Digits") {
    const bool individual = json_bool(node, "individual_digits", source);
    steps_.push_back(
        {.regex = Regex::from_oniguruma(individual ? R"(\p{N})" : R"(\p{N}+)", source)});
  } else if (type == "Split") {
    const bool invert = json_bool(node, "invert", source);
    const std::string behavior = json_string(node, "behavior", source);
    if (behavior != "Isolated" && behavior != "Removed") {
      fail("{}: Split with behavior {} is not supported; Isolated and Removed are", source,
           quote(behavior));
    }
    const bool removed = behavior == "Removed";
    steps_.push_back({.regex = split_regex(node, source),
                      .keep_matches = !removed || invert,
                      .keep_gaps = !removed || !invert});
  } else {
    fail("{}: pre_tokenizer {} is not supported; ByteLevel, Digits, Split and Sequence are", source,
         quote(type));
  }
}

std::vector<std::string_view> PreTokenizer::split(std::string_view text,
                                                  SearchBudget& budget) const {
  std::vector<std::string_view> pieces;
  if (!text.empty()) pieces.push_back(text);
  for (const Step& step : steps_) {
    Regex::Search search(step.regex, budget);
    std::vector<std::string_view> finer;
    for (const std::string_view piece : pieces) {
      size_t done = 0;
      while (const auto match = search.next(piece, done)) {
        if (step.keep_gaps && match->begin > done)
          finer.push_back(piece.substr(done, match->begin - done));
        if (step.keep_matches)
          finer.push_back(piece.substr(match->begin, match->end - match->begin));
        done = match->end;
      }
      if (step.keep_gaps && done < piece.size()) finer.push_back(piece.substr(done));
    }
    pieces = std::move(finer);
  }
  return pieces;
}

}  // namespace vyx::models
