// Sites and the patterns that choose them.
//
// A site is written `path:output` or `path:input`; without a port, `:output` is meant. The root
// module's path is empty (`:output`). In a pattern
//
//   - `*` is any part of one path segment, and `?` one character of it;
//   - `**` is any number of segments, and a leading `*.` any prefix;
//   - `{a,b}` are alternatives, and `{8..20}` is a range of numbers.
//
// Examples: `model.layers.{8..20}`, `*.mlp:input`, `**.q_proj`.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace vyx {

enum class Port { input, output };

struct Site {
  std::string path;
  Port port = Port::output;

  static Site parse(std::string_view text);  // throws Error for an unknown port
  std::string name() const;                  // "model.layers.14:output"
  friend auto operator<=>(const Site&, const Site&) = default;
};

class SitePattern {
 public:
  // Throws Error for unbalanced braces or a range too wide.
  explicit SitePattern(std::string_view pattern);
  bool matches(const Site& site) const;
  const std::string& text() const { return text_; }

 private:
  std::string text_;
  Port port_ = Port::output;
  std::vector<std::string> alternatives_;  // braces expanded; wildcards left
};

}  // namespace vyx
