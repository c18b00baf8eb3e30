#include "core/hooks/script_code.h"

#include <algorithm>
#include <iterator>

#include "core/base/error.h"

namespace vyx {
namespace {

constexpr size_t kMaxBrackets = 200, kMaxIndent = 400, kMaxElifs = 200;
// Operators, dots and brackets that may depend on each other, in all brackets that are open.
constexpr size_t kMaxChain = 1000;
constexpr std::string_view kOperatorWords[] = {"if", "else", "and", "or", "not", "in", "is"};

bool begins_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}
bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

class Lexer {
 public:
  Lexer(std::string_view code, const std::string& source) : code_(code), source_(source) {}

  std::vector<ScriptToken> read() {
    indent();
    while (at_ < code_.size()) step();
    if (chains_.size() != 1) refuse("an open bracket at the end", "all closed");
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void refuse(std::string_view found, std::string_view expected) const {
    fail("{}:{}: found {}, expected {}", source_, line_, found, expected);
  }
  char peek(size_t ahead = 0) const {
    return at_ + ahead < code_.size() ? code_[at_ + ahead] : '\0';
  }
  void take(ScriptToken::Kind kind, size_t size) {
    const bool outer = at_ == 0 || code_[at_ - 1] == '\n';
    tokens_.push_back({kind, code_.substr(at_, size), line_, outer});
    at_ += size;
  }

  void step() {
    const char c = peek();
    if (c == '\n') {
      ++at_;
      ++line_;
      if (chains_.size() == 1) reset_chain();
      indent();
    } else if (c == ' ' || c == '\t' || c == '\r') {
      ++at_;
    } else if (c == '#') {
      comment();
    } else if (c == '"' || c == '\'') {
      text(c);
    } else if (begins_name(c)) {
      name();
    } else if (is_digit(c)) {
      number();
    } else {
      sign(c);
    }
  }

  void indent() {
    size_t columns = 0;
    while (peek(columns) == ' ' || peek(columns) == '\t') ++columns;
    if (columns > kMaxIndent)
      refuse("a line that is indented by " + std::to_string(columns) + " columns",
             "at most " + std::to_string(kMaxIndent));
  }

  void comment() {
    if (code_.substr(at_).starts_with("# type:")) refuse("a type in a comment", "an annotation");
    at_ = std::min(code_.find('\n', at_), code_.size());
  }

  void text(char quote) {
    if (peek(1) == quote && peek(2) == quote) refuse("a string in triple quotes", "single quotes");
    size_t size = 1;
    for (; peek(size) != quote; ++size) {
      if (peek(size) == '\\') ++size;
      if (at_ + size >= code_.size() || peek(size) == '\n')
        refuse("a string without an end", "one");
    }
    tokens_.push_back({ScriptToken::Kind::text, code_.substr(at_ + 1, size - 1), line_});
    at_ += size + 1;
  }

  void name() {
    size_t size = 1;
    while (begins_name(peek(size)) || is_digit(peek(size))) ++size;
    const std::string_view word = code_.substr(at_, size);
    if (std::find(std::begin(kOperatorWords), std::end(kOperatorWords), word) !=
        std::end(kOperatorWords))
      count();
    if (word == "elif" && ++elifs_ > kMaxElifs)
      refuse("more than " + std::to_string(kMaxElifs) + " branches with elif", "at most that");
    take(ScriptToken::Kind::name, size);
  }

  // As LibTorch's lexer reads it: what follows at once is a token of its own.
  void number() {
    size_t size = 1;
    const auto digits = [&] {
      while (is_digit(peek(size))) ++size;
    };
    digits();
    if (peek(size) == '.') ++size;
    digits();
    const size_t sign = peek(size + 1) == '+' || peek(size + 1) == '-' ? 1 : 0;
    if ((peek(size) == 'e' || peek(size) == 'E') && is_digit(peek(size + 1 + sign))) {
      size += 2 + sign;
      digits();
    }
    if (peek(size) == 'j') ++size;
    take(ScriptToken::Kind::number, size);
  }

  void sign(char c) {
    if (c == '(' || c == '[' || c == '{') {
      count();
      chains_.push_back(0);
      if (chains_.size() > kMaxBrackets)
        refuse("brackets nested deeper than " + std::to_string(kMaxBrackets), "at most that");
    } else if (c == ')' || c == ']' || c == '}') {
      if (chains_.size() == 1) refuse("a bracket that closes none", "an open one");
      reset_chain();
      chains_.pop_back();
    } else if (c == ',') {
      reset_chain();
    } else {
      count();
    }
    take(ScriptToken::Kind::sign, 1);
  }

  void count() {
    ++chains_.back();
    if (++total_ > kMaxChain)
      refuse("an expression of more than " + std::to_string(kMaxChain) + " operators",
             "at most that");
  }
  void reset_chain() {
    total_ -= chains_.back();
    chains_.back() = 0;
  }

  std::string_view code_;
  const std::string& source_;
  size_t at_ = 0, total_ = 0, elifs_ = 0;
  uint32_t line_ = 1;
  std::vector<size_t> chains_ = {0};  // of the open brackets, the outermost first
  std::vector<ScriptToken> tokens_;
};

}  // namespace

std::vector<ScriptToken> script_tokens(std::string_view code, const std::string& source) {
  return Lexer(code, source).read();
}

}  // namespace vyx
