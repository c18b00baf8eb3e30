#include "models/tokenizer/chat_template.h"

#include <algorithm>
#include <cctype>
#include <utility>

namespace vyx::models {
namespace {

using Kind = TemplatePart::Kind;
constexpr std::string_view kBlank = " \t\r\n\f\v";

struct TemplateToken {
  std::string spelling;  // of a string, what it says
  bool is_string = false;
};

bool is_name(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
}

/// A string literal at the front of `code`, taken off it.
std::optional<std::string> take_string(std::string_view& code) {
  const char end = code[0];
  std::string text;
  for (size_t i = 1; i < code.size(); ++i) {
    if (code[i] == end) {
      code.remove_prefix(i + 1);
      return text;
    }
    if (code[i] != '\\') {
      text += code[i];
      continue;
    }
    if (++i == code.size()) return std::nullopt;
    constexpr std::string_view kEscapes = "nrt\\'\"", kMeanings = "\n\r\t\\'\"";
    const size_t escape = kEscapes.find(code[i]);
    if (escape == std::string_view::npos) return std::nullopt;
    text += kMeanings[escape];
  }
  return std::nullopt;
}

/// The tokens of what stands between a tag's braces.
std::optional<std::vector<TemplateToken>> tokens_of(std::string_view code) {
  std::vector<TemplateToken> tokens;
  while (true) {
    code.remove_prefix(std::min(code.find_first_not_of(kBlank), code.size()));
    if (code.empty()) return tokens;
    if (code[0] == '\'' || code[0] == '"') {
      auto text = take_string(code);
      if (!text) return std::nullopt;
      tokens.push_back({std::move(*text), true});
      continue;
    }
    size_t length = 1;
    if (is_name(code[0])) {
      while (length < code.size() && is_name(code[length])) ++length;
    } else if (code.size() > 1 && code[1] == '=' &&
               std::string_view("=!<>").find(code[0]) != std::string_view::npos) {
      length = 2;
    }
    tokens.push_back({std::string(code.substr(0, length))});
    code.remove_prefix(length);
    // `.name` is `["name"]`.
    const size_t last = tokens.size() - 1;
    if (last >= 2 && tokens[last - 1].spelling == "." && !tokens[last - 1].is_string &&
        is_name(tokens[last].spelling[0])) {
      tokens[last - 1].spelling = "[";
      tokens[last].is_string = true;
      tokens.push_back({"]"});
    }
  }
}

std::string joined(std::vector<TemplateToken>::const_iterator begin,
                   std::vector<TemplateToken>::const_iterator end, const std::string& loop_name) {
  std::string text;
  for (auto token = begin; token != end; ++token) {
    if (token != begin) text += ' ';
    if (token->is_string) {
      text += '"' + token->spelling + '"';
    } else {
      text += token->spelling == loop_name ? "message" : token->spelling;
    }
  }
  return text;
}

class PartsOfTemplate {
 public:
  std::optional<std::vector<TemplatePart>> read(std::string_view jinja) {
    if (jinja.ends_with('\n')) jinja.remove_suffix(1);  // as Jinja does, one of them
    bool strip_blanks = false, strip_line_end = false;  // of the text that comes next
    bool at_line_start = true;
    while (true) {
      const size_t open = next_tag(jinja);
      const bool is_last = open == jinja.size();
      std::string_view text = jinja.substr(0, open);
      const char kind = is_last ? '\0' : jinja[open + 1];
      const char sign = open + 2 < jinja.size() ? jinja[open + 2] : '\0';
      if (strip_blanks) text.remove_prefix(std::min(text.find_first_not_of(kBlank), text.size()));
      if (strip_line_end && text.starts_with('\n')) {
        text.remove_prefix(1);
        at_line_start = true;
      }
      if (!is_last) text = before_tag(text, kind, sign, at_line_start);
      at_line_start = false;
      add_text(std::string(text));
      if (is_last) return std::move(parts_);

      jinja.remove_prefix(open + 2);
      if (sign == '-' || sign == '+') jinja.remove_prefix(1);
      const size_t close = end_of_tag(jinja, kind);
      if (close == jinja.size()) return std::nullopt;
      std::string_view code = jinja.substr(0, close);
      strip_blanks = code.ends_with('-');
      strip_line_end = kind != '{';
      if (strip_blanks) code.remove_suffix(1);
      jinja.remove_prefix(close + 2);
      if (kind != '#' && !add_tag(kind, code)) return std::nullopt;
    }
  }

 private:
  static size_t next_tag(std::string_view jinja) {
    size_t at = 0;
    while ((at = jinja.find('{', at)) != std::string_view::npos) {
      if (at + 1 < jinja.size() &&
          std::string_view("{%#").find(jinja[at + 1]) != std::string_view::npos)
        return at;
      ++at;
    }
    return jinja.size();
  }

  /// Where a tag's closing braces begin; strings may hold braces.
  static size_t end_of_tag(std::string_view jinja, char kind) {
    const char closing = kind == '{' ? '}' : kind;
    char quote = '\0';
    for (size_t i = 0; i + 1 < jinja.size(); ++i) {
      if (quote != '\0') {
        if (jinja[i] == '\\')
          ++i;
        else if (jinja[i] == quote)
          quote = '\0';
      } else if (kind != '#' && (jinja[i] == '\'' || jinja[i] == '"')) {
        quote = jinja[i];
      } else if (jinja[i] == closing && jinja[i + 1] == '}') {
        return i;
      }
    }
    return jinja.size();
  }

  /// The text before a tag, without the white space that the tag takes away.
  static std::string_view before_tag(std::string_view text, char kind, char sign,
                                     bool at_line_start) {
    if (sign == '-') return text.substr(0, text.find_last_not_of(kBlank) + 1);
    const size_t line = text.find_last_of('\n') + 1;
    if (kind == '{' || sign == '+' || (line == 0 && !at_line_start)) return text;
    const bool blank = text.find_first_not_of(" \t", line) == std::string_view::npos;
    return blank ? text.substr(0, line) : text;
  }

  void add_text(const std::string& text) {
    if (text.empty()) return;
    if (!parts_.empty() && parts_.back().kind == Kind::text) {
      parts_.back().spelling += text;
    } else {
      parts_.push_back({Kind::text, text});
    }
  }

  bool add_tag(char kind, std::string_view code) {
    const auto tokens = tokens_of(code);
    if (!tokens || tokens->empty()) return false;
    if (kind == '%') {
      const auto word = [&](size_t i) { return i < tokens->size() ? (*tokens)[i].spelling : ""; };
      if (tokens->size() == 4 && word(0) == "for" && word(2) == "in" && word(3) == "messages")
        loop_name_ = word(1);
      parts_.push_back({Kind::statement, joined(tokens->begin(), tokens->end(), loop_name_)});
      return true;
    }
    for (auto begin = tokens->begin();; ++begin) {  // one part per summand
      const auto end = std::find_if(begin, tokens->end(), [](const TemplateToken& token) {
        return !token.is_string && (token.spelling == "+" || token.spelling == "~");
      });
      if (begin == end) return false;
      if (end - begin == 1 && begin->is_string) {
        add_text(begin->spelling);
      } else {
        parts_.push_back({Kind::value, joined(begin, end, loop_name_)});
      }
      if (end == tokens->end()) return true;
      begin = end;
    }
  }

  std::vector<TemplatePart> parts_;
  std::string loop_name_ = "message";
};

}  // namespace

std::optional<std::vector<TemplatePart>> template_parts(std::string_view jinja) {
  return PartsOfTemplate().read(jinja);
}

}  // namespace vyx::models
