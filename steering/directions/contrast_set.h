// Contrast sets: pairs of inputs that differ in one concept.
#pragma once
#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace vyx::steering {

struct ContrastPair {
  std::string positive, negative;  // whole prompts
};

struct ContrastSet {
  std::string source;  // the file, for errors and provenance
  std::string sha256;  // of the pairs as text, whatever file they came from
  std::vector<ContrastPair> pairs;
  std::vector<size_t> groups;  // [pairs], from 0: pairs of one group have something in common (a
                               // template's beginning)
  std::string instruction;     // a template's prompt with the first positive persona: the concept,
                               // asked for in words; "" when the set is a file of pairs
};

/// JSON Lines of {"positive": …, "negative": …}, with further keys ignored. Throws Error naming
/// file and line for a missing or empty side, two equal sides, or a line that is not JSON; and
/// the file when it holds no pair.
ContrastSet read_contrast_set(const std::filesystem::path& path);

/// A template (JSON: {"prompt": "… {persona} …", "positive": [personas], "negative": [personas],
/// "beginnings": FILE}) crossed with its sentence beginnings, the way of repeng
/// (https://github.com/vgel/repeng): the i-th positive persona is paired with the i-th negative
/// one, and each pair of prompts, written in `chat_format`, is continued by each beginning.
/// `beginnings` is beside the template. With `chat_format` "" the prompt is plain text with a blank
/// line behind it. Throws Error as above, and for sides of different length.
ContrastSet read_contrast_template(const std::filesystem::path& path, std::string_view chat_format);

/// Pairs of continuations of one prompt, to measure what an edit does: JSON Lines of {"prompt",
/// "positive", "negative"}.
struct ContinuationPair {
  std::string prompt, positive, negative;
};
std::vector<ContinuationPair> read_continuation_pairs(const std::filesystem::path& path);

}  // namespace vyx::steering
