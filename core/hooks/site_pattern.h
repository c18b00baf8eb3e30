// Sites and the patterns that choose them.
//
// A site is written `path:output` or `path:input`; without a port, `:output` is meant. The root
// module's path is empty (`:output`). In a pattern
//
//   - `*` is any part of one path segment, and `?` one character of it;
//   - `**` is any number of segments, and a leading `*.` any prefix;
//   - `{a,b}` are alternatives, and `{8..20}` is a range of numbers; each must choose a site.
//
// Examples: `model.layers.{8..20}`, `*.mlp:input`, `**.q_proj`.
#pragma once
#include <span>
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
  // Throws Error for an empty pattern, unbalanced braces, an empty place in a list, and a range
  // that is too wide or runs downwards.
  explicit SitePattern(std::string_view pattern);
  bool matches(const Site& site) const;
  /// Those of `sites`, all that `owner` has, that it chooses. Throws Error naming the owner and the
  /// nearest sites when one of the paths that its braces stand for chooses none.
  std::vector<Site> choose(std::span<const Site> sites, std::string_view owner) const;
  const std::string& text() const { return text_; }

 private:
  std::string text_;
  Port port_ = Port::output;
  std::vector<std::string> alternatives_;  // braces expanded; wildcards left
};

}  // namespace vyx
