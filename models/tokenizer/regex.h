// The split patterns of tokenizer files, on PCRE2. They are written for Oniguruma, which
// `tokenizers` uses, and come from strangers. What the two engines understand differently is
// translated or refused; a search that takes too long is an error.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

// PCRE2's own types, so that its header stays in regex.cpp.
struct pcre2_real_code_8;
struct pcre2_real_match_data_8;
struct pcre2_real_match_context_8;

namespace vyx::models {

/// The processor time that splitting one text may cost: far more than a sane pattern needs. PCRE2's
/// own limit counts anew at each start of a match, so that alone does not stop a pattern whose time
/// is quadratic in the text.
class SearchBudget {
 public:
  /// To be made by the thread that searches.
  explicit SearchBudget(size_t text_bytes);
  bool spent();

 private:
  int64_t end_;  // nanoseconds of this thread's clock
  int calls_ = 0;
};

class Regex {
 public:
  /// Throws Error naming `source` and the part of the pattern that is not understood.
  static Regex from_oniguruma(std::string_view pattern, std::string_view source);
  /// Matches exactly `text`.
  static Regex literal(std::string_view text, std::string_view source);

  struct Match {
    size_t begin, end;  // bytes of the subject; never empty
  };
  class Search;

 private:
  Regex(std::string_view pattern, uint32_t options, std::string_view source);

  std::shared_ptr<const pcre2_real_code_8> code_;
  std::string pattern_, source_;  // for messages; the pattern quoted
};

/// What one thread needs to search, kept over many subjects.
class Regex::Search {
 public:
  Search(const Regex& regex, SearchBudget& budget);

  /// The first match that begins at or after `from`. `subject` is well-formed UTF-8 and `from` the
  /// beginning of a character. Throws Error when a limit is reached: never "no match".
  std::optional<Match> next(std::string_view subject, size_t from);

 private:
  const Regex& regex_;
  SearchBudget& budget_;
  std::shared_ptr<pcre2_real_match_data_8> match_;
  std::shared_ptr<pcre2_real_match_context_8> context_;
};

}  // namespace vyx::models
