// Contrast sets: pairs of inputs that differ in one concept.
#pragma once
#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "models/tokenizer/chat_format.h"

namespace vyx::steering {

struct ContrastPair {
  std::string positive, negative;  // whole prompts
};

struct ContrastSet {
  std::string source;  // the file, for errors and provenance
  std::string sha256;  // of the pairs as text, whatever file they came from
  std::vector<ContrastPair> pairs;
  std::vector<std::string> places;  // [pairs], where each stands: "pairs.jsonl:2"
  std::vector<size_t> groups;  // [pairs], from 0: pairs of one group have something in common (a
                               // template's beginning)
  std::string instruction;     // a template's prompt with the first positive persona: the concept,
                               // asked for in words; "" when the set is a file of pairs
  // Of a template; empty when the set is a file of pairs.
  std::vector<ContrastPair> persona_pairs;  // [personas]
  std::vector<size_t> personas;             // [pairs], places in persona_pairs
};

/// JSON Lines of {"positive": …, "negative": …}, with further keys ignored, or another file of
/// records with these keys (core/io/records.h). Throws Error naming file and line for a missing or
/// empty side and two equal sides; and the file when it holds no pair.
ContrastSet read_contrast_set(const std::filesystem::path& path);

/// A template (JSON: {"prompt": "… {persona} …", "positive": [personas], "negative": [personas],
/// "beginnings": FILE}) crossed with its sentence beginnings, the way of repeng
/// (https://github.com/vgel/repeng): the i-th positive persona is paired with the i-th negative
/// one, and each pair of prompts, a user's message in `chat_format`, is continued by each
/// beginning. `beginnings` is beside the template. With no chat format the prompt is plain text
/// with a blank line behind it. Throws Error as above, for sides of different length, and for a
/// prompt with a marker of the format in it.
ContrastSet read_contrast_template(const std::filesystem::path& path,
                                   const models::ChatFormat& chat_format);

/// Pairs of continuations of one prompt, to measure what an edit does: JSON Lines of {"prompt",
/// "positive", "negative"}, or another file of records with these keys.
struct ContinuationPair {
  std::string prompt, positive, negative;
  std::string place = {};  // where it stands, for errors: "heldout.jsonl:2"
};
std::vector<ContinuationPair> read_continuation_pairs(const std::filesystem::path& path);

}  // namespace vyx::steering
