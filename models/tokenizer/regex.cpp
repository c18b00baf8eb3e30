#include "models/tokenizer/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <ctime>
#include <new>

#include "core/base/error.h"
#include "core/base/text.h"

namespace vyx::models {
namespace {

constexpr size_t kMaxPattern = 64u << 10;
constexpr size_t kMatchLimit = 100'000,
                 kMatchLimitPerByte = 4;  // \s*[\r\n]+ gives back a run of blanks one by one
constexpr uint32_t kDepthLimit = 10'000, kHeapLimitKib = 16u << 10;
constexpr size_t kJitStackMin = 32u << 10, kJitStackMax = 1u << 20;
constexpr int64_t kBudget = 500'000'000,
                  kBudgetPerByte = 1'000;  // ns; text takes about 50 per byte
constexpr size_t kWindow = 64;             // starts of a match tried between two looks at the clock

/// A pattern, or a part of it, for a message: as it is, since quote() would escape each of its
/// backslashes.
std::string show(std::string_view pattern) {
  const bool printable = std::none_of(pattern.begin(), pattern.end(),
                                      [](unsigned char c) { return c < ' ' || c > '~'; });
  if (!printable) return quote(pattern);
  return fmt::format("'{}{}'", pattern.substr(0, 80), pattern.size() > 80 ? "…" : "");
}

/// Rewrites an Oniguruma pattern so that PCRE2 matches the same, or refuses it: Note [Two
/// dialects].
///
/// Note [Two dialects]
/// Alternation, groups, classes, greedy and lazy repeats, lookahead, lookbehind, (?i:) and general
/// categories mean the same. \s is White_Space in Oniguruma; PCRE2's also has U+180E. Left out,
/// since they mean different things (checked against the manuals of Oniguruma 6.9 and PCRE2 10.42):
/// ^ and $ (lines or text), . (newlines), \w and \b, \h (hexadecimal digit or blank), \Z,
/// possessive {n,m}+, nested and intersected classes, and all that only one of them knows.
class Translator {
 public:
  Translator(std::string_view pattern, std::string_view source)
      : pattern_(pattern), source_(source) {}

  std::string translate() {
    while (at_ < pattern_.size()) {
      const char c = pattern_[at_];
      if (c == '\\') {
        escape();
      } else if (in_class_) {
        class_character(c);
      } else if (c == '[') {
        open_class();
      } else if (c == '(') {
        group();
      } else if (c == '{') {
        interval();
      } else if (c == '^' || c == '$' || c == '.') {
        refuse(1);
      } else {
        copy(1);
      }
    }
    return std::move(out_);
  }

 private:
  void copy(size_t count) {
    out_ += pattern_.substr(at_, count);
    at_ += count;
  }

  [[noreturn]] void refuse(size_t count) const {
    fail(
        "{}: {} at byte {} of the split pattern is not supported (it does not mean the same in "
        "every regex engine): {}",
        source_, show(pattern_.substr(at_, count)), at_, show(pattern_));
  }

  void escape() {
    const char c = at_ + 1 < pattern_.size() ? pattern_[at_ + 1] : '\0';
    if (c == 's' || c == 'S') {
      out_ += c == 's' ? "\\p{White_Space}" : "\\P{White_Space}";
      at_ += 2;
    } else if (c == 'p' || c == 'P') {
      category();
    } else if (std::string_view("drntf\\/-.,:;!?'\"#%&@=<>~`_()[]{}|*+^$ ").find(c) !=
               std::string_view::npos) {
      copy(2);
    } else {
      refuse(2);
    }
  }

  void category() {
    static constexpr std::array kCategories = {"L",  "Lu", "Ll", "Lt", "Lm", "Lo", "M",  "Mn",
                                               "Mc", "Me", "N",  "Nd", "Nl", "No", "P",  "Pc",
                                               "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "S",  "Sm",
                                               "Sc", "Sk", "So", "Z",  "Zs", "Zl", "Zp", "Han"};
    const size_t close = pattern_.find('}', at_);
    const bool braces = close != std::string_view::npos && pattern_[at_ + 2] == '{';
    const std::string_view name =
        braces ? pattern_.substr(at_ + 3, close - at_ - 3) : std::string_view();
    if (std::find(kCategories.begin(), kCategories.end(), name) == kCategories.end()) {
      refuse(braces ? close + 1 - at_ : 3);
    }
    copy(close + 1 - at_);
  }

  void open_class() {
    in_class_ = true;
    copy(1);
    if (at_ < pattern_.size() && pattern_[at_] == '^') copy(1);
    if (at_ < pattern_.size() && pattern_[at_] == ']')
      refuse(1);  // an empty class, or a bracket in it
  }

  void class_character(char c) {
    if (c == '[' || pattern_.substr(at_, 2) == "&&") refuse(2);
    if (c == ']') in_class_ = false;
    copy(1);
  }

  void group() {
    for (const std::string_view opening : {"(?:", "(?i:", "(?=", "(?!", "(?<=", "(?<!"}) {
      if (pattern_.substr(at_).starts_with(opening)) return copy(opening.size());
    }
    if (const std::string_view special = pattern_.substr(at_ + 1, 1);
        special == "?" || special == "*")
      refuse(3);
    copy(1);
  }

  void interval() {
    const size_t close = pattern_.find('}', at_);
    const bool digits =
        close != std::string_view::npos && pattern_[at_ + 1] != ',' && close > at_ + 1 &&
        pattern_.substr(at_ + 1, close - at_ - 1).find_first_not_of("0123456789,") ==
            std::string_view::npos;
    if (!digits) refuse(1);
    copy(close + 1 - at_);
    if (at_ < pattern_.size() && (pattern_[at_] == '+' || pattern_[at_] == '?')) refuse(1);
  }

  std::string_view pattern_, source_;
  std::string out_;
  size_t at_ = 0;
  bool in_class_ = false;
};

std::string message_of(int code) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

/// JIT-compiled code runs on a stack of ours, one per thread.
pcre2_jit_stack* thread_jit_stack(void*) {
  struct Free {
    void operator()(pcre2_jit_stack* stack) const { pcre2_jit_stack_free(stack); }
  };
  thread_local const std::unique_ptr<pcre2_jit_stack, Free> stack(
      pcre2_jit_stack_create(kJitStackMin, kJitStackMax, nullptr));
  return stack.get();
}

int64_t thread_nanoseconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return now.tv_sec * 1'000'000'000 + now.tv_nsec;
}

}  // namespace

SearchBudget::SearchBudget(size_t text_bytes)
    : end_(thread_nanoseconds() + kBudget + kBudgetPerByte * static_cast<int64_t>(text_bytes)) {}

bool SearchBudget::spent() {
  return ++calls_ % 16 == 0 &&
         thread_nanoseconds() > end_;  // reading the clock costs as much as a match
}

Regex::Regex(std::string_view pattern, uint32_t options, std::string_view source)
    : pattern_(show(pattern)), source_(source) {
  struct Free {
    void operator()(pcre2_compile_context* context) const { pcre2_compile_context_free(context); }
  };
  const std::unique_ptr<pcre2_compile_context, Free> context(pcre2_compile_context_create(nullptr));
  if (!context) throw std::bad_alloc();
  pcre2_set_max_pattern_length(context.get(), 2 * kMaxPattern);  // translation lengthens it
  int code = 0;
  PCRE2_SIZE offset = 0;
  options |= PCRE2_UTF | PCRE2_USE_OFFSET_LIMIT;
  pcre2_code* compiled = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                       options, &code, &offset, context.get());
  if (compiled == nullptr) {
    fail("{}: the split pattern does not compile: {} (at byte {}): {}", source_, message_of(code),
         offset, pattern_);
  }
  code_ = {compiled, pcre2_code_free};
  uint32_t matches_empty = 0;
  pcre2_pattern_info(compiled, PCRE2_INFO_MATCHEMPTY, &matches_empty);
  if (matches_empty != 0)
    fail("{}: the split pattern matches the empty text: {}", source_, pattern_);
  // Without JIT (an unusual processor, a hardened kernel) the interpreter gives the same matches,
  // more slowly.
  pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE);
}

Regex Regex::from_oniguruma(std::string_view pattern, std::string_view source) {
  if (pattern.size() > kMaxPattern) {
    fail("{}: the split pattern has {} bytes, expected at most {}", source, pattern.size(),
         kMaxPattern);
  }
  return Regex(Translator(pattern, source).translate(), PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C,
               source);
}

Regex Regex::literal(std::string_view text, std::string_view source) {
  if (text.size() > kMaxPattern) {
    fail("{}: the split pattern has {} bytes, expected at most {}", source, text.size(),
         kMaxPattern);
  }
  return Regex(text, PCRE2_LITERAL, source);
}

Regex::Search::Search(const Regex& regex, SearchBudget& budget)
    : regex_(regex),
      budget_(budget),
      match_(pcre2_match_data_create_from_pattern(regex.code_.get(), nullptr),
             pcre2_match_data_free),
      context_(pcre2_match_context_create(nullptr), pcre2_match_context_free) {
  if (!match_ || !context_) throw std::bad_alloc();
  pcre2_set_depth_limit(context_.get(), kDepthLimit);
  pcre2_set_heap_limit(context_.get(), kHeapLimitKib);
  pcre2_jit_stack_assign(context_.get(), thread_jit_stack, nullptr);
}

std::optional<Regex::Match> Regex::Search::next(std::string_view subject, size_t from) {
  const size_t limit = kMatchLimit + kMatchLimitPerByte * subject.size();
  pcre2_set_match_limit(context_.get(), static_cast<uint32_t>(std::min<size_t>(limit, UINT32_MAX)));
  while (from < subject.size()) {
    if (budget_.spent()) {
      fail("{}: splitting the text took too long, the pattern backtracks too much: {}",
           regex_.source_, regex_.pattern_);
    }
    const size_t last_start = std::min(from + kWindow, subject.size());
    pcre2_set_offset_limit(context_.get(), last_start);
    // The caller has checked the subject: checked here, each match would read all that follows it.
    const int found =
        pcre2_match(regex_.code_.get(), reinterpret_cast<PCRE2_SPTR>(subject.data()),
                    subject.size(), from, PCRE2_NO_UTF_CHECK, match_.get(), context_.get());
    if (found > 0) {
      const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(match_.get());
      return Match{bounds[0], bounds[1]};
    }
    if (found != PCRE2_ERROR_NOMATCH) {
      fail("{}: the split pattern failed at byte {} of a text: {}: {}", regex_.source_, from,
           message_of(found), regex_.pattern_);
    }
    from = last_start + 1;
    while (from < subject.size() && (static_cast<unsigned char>(subject[from]) & 0xC0) == 0x80)
      ++from;
  }
  return std::nullopt;
}

}  // namespace vyx::models
