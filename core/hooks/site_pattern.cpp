#include "core/hooks/site_pattern.h"

#include <algorithm>
#include <charconv>
#include <numeric>
#include <optional>
#include <utility>

#include <fmt/ranges.h>

#include "core/base/error.h"
#include "core/base/nearest.h"

namespace vyx {
namespace {

// Of one pattern: more is a typing error, not a choice of sites.
constexpr size_t kMaxAlternatives = 4096;

/// "path:port" taken apart.
std::pair<std::string_view, Port> split_port(std::string_view text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return {text, Port::output};
  const std::string_view port = text.substr(colon + 1);
  if (port == "output") return {text.substr(0, colon), Port::output};
  if (port == "input") return {text.substr(0, colon), Port::input};
  fail("site '{}': found port '{}', expected 'input' or 'output'", text, port);
}

/// The numbers of "8..20" as text; nullopt when `text` is not of that form.
std::optional<std::vector<std::string>> expand_range(std::string_view text,
                                                     std::string_view pattern) {
  const size_t dots = text.find("..");
  if (dots == std::string_view::npos) return std::nullopt;
  const auto number = [](std::string_view digits) -> std::optional<uint64_t> {
    uint64_t value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
    return value;
  };
  const auto first = number(text.substr(0, dots)), last = number(text.substr(dots + 2));
  if (!first || !last) return std::nullopt;
  if (*first > *last) {
    fail("pattern '{}': the range {{{}}} runs downwards; write {{{}..{}}}", pattern, text, *last,
         *first);
  }
  if (*last - *first >= kMaxAlternatives) {
    fail("pattern '{}': the range {{{}}} has more than {} numbers", pattern, text,
         kMaxAlternatives);
  }
  std::vector<std::string> numbers;
  for (uint64_t n = *first; n <= *last; ++n) numbers.push_back(std::to_string(n));
  return numbers;
}

/// Expands the braces of `text`, which may nest. `pattern` is for messages.
std::vector<std::string> expand(std::string_view text, std::string_view pattern) {
  const size_t open = text.find_first_of("{}");
  if (open == std::string_view::npos) return {std::string(text)};
  if (text[open] == '}') fail("pattern '{}': found '}}' without '{{'", pattern);

  // What stands between the braces, cut at the commas of this level.
  std::vector<std::string_view> parts;
  size_t depth = 1, start = open + 1, close = start;
  for (; close < text.size(); ++close) {
    const char c = text[close];
    if (c == '{') ++depth;
    if (c == '}' && --depth == 0) break;
    if (c == ',' && depth == 1) {
      parts.push_back(text.substr(start, close - start));
      start = close + 1;
    }
  }
  if (depth != 0) fail("pattern '{}': found '{{' without '}}'", pattern);
  parts.push_back(text.substr(start, close - start));

  std::vector<std::string> choices;
  for (const std::string_view part : parts) {
    if (part.empty())
      fail("pattern '{}': found nothing between two commas or braces, expected a name", pattern);
    auto numbers = expand_range(part, pattern);
    for (auto& choice : numbers ? *numbers : expand(part, pattern))
      choices.push_back(std::move(choice));
  }
  const std::vector<std::string> tails = expand(text.substr(close + 1), pattern);
  if (choices.size() * tails.size() > kMaxAlternatives) {
    fail("pattern '{}': its braces stand for more than {} paths", pattern, kMaxAlternatives);
  }
  std::vector<std::string> expanded;
  for (const std::string& choice : choices) {
    for (const std::string& tail : tails)
      expanded.push_back(std::string(text.substr(0, open)) + choice + tail);
  }
  return expanded;
}

std::vector<std::string_view> segments_of(std::string_view path) {
  std::vector<std::string_view> segments;
  if (path.empty()) return segments;  // the root has none
  for (size_t start = 0; start <= path.size();) {
    const size_t end = std::min(path.find('.', start), path.size());
    segments.push_back(path.substr(start, end - start));
    start = end + 1;
  }
  return segments;
}

/// Matches two sequences where `is_star` pattern elements stand for any number of items. Going back
/// to the last star is enough, so that no pattern costs more than the product of the lengths.
template <class Pattern, class Items, class IsStar, class Matches>
bool glob(const Pattern& pattern, const Items& items, IsStar is_star, Matches matches) {
  size_t p = 0, i = 0, star = pattern.size(), star_item = 0;
  while (i < items.size()) {
    if (p < pattern.size() && is_star(pattern[p])) {
      star = p++;
      star_item = i;
    } else if (p < pattern.size() && matches(pattern[p], items[i])) {
      ++p, ++i;
    } else if (star < pattern.size()) {
      p = star + 1;
      i = ++star_item;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && is_star(pattern[p])) ++p;
  return p == pattern.size();
}

bool matches_segment(std::string_view pattern, std::string_view segment) {
  return glob(
      pattern, segment, [](char c) { return c == '*'; },
      [](char p, char c) { return p == '?' || p == c; });
}

bool matches_path(std::string_view pattern, std::string_view path) {
  std::vector<std::string_view> parts = segments_of(pattern);
  if (parts.size() > 1 && parts.front() == "*")
    parts.front() = "**";  // a leading `*.` is any prefix
  return glob(
      parts, segments_of(path), [](std::string_view part) { return part == "**"; },
      matches_segment);
}

}  // namespace

Site Site::parse(std::string_view text) {
  const auto [path, port] = split_port(text);
  return {.path = std::string(path), .port = port};
}

std::string Site::name() const {
  return path + (port == Port::input ? ":input" : ":output");
}

SitePattern::SitePattern(std::string_view pattern) : text_(pattern) {
  if (pattern.empty())
    fail("found an empty pattern, expected a site; the module's own are :input and :output");
  const auto [path, port] = split_port(pattern);
  port_ = port;
  alternatives_ = expand(path, pattern);
}

bool SitePattern::matches(const Site& site) const {
  return site.port == port_ &&
         std::any_of(alternatives_.begin(), alternatives_.end(),
                     [&](const std::string& path) { return matches_path(path, site.path); });
}

std::vector<Site> SitePattern::choose(std::span<const Site> sites, std::string_view owner) const {
  std::vector<std::string> names, missing;
  for (const Site& site : sites) names.push_back(site.name());
  for (const std::string& path : alternatives_) {
    const auto matched = [&](const Site& site) {
      return site.port == port_ && matches_path(path, site.path);
    };
    if (std::none_of(sites.begin(), sites.end(), matched))
      missing.push_back(Site{path, port_}.name());
  }
  if (!missing.empty()) {
    const bool all = missing.size() == alternatives_.size();
    const std::string within =
        all ? "" : fmt::format(", one of {} that '{}' stands for", alternatives_.size(), text_);
    fail("{}: no site matches '{}'{}; the nearest are {}", owner, all ? text_ : missing.front(),
         within, fmt::join(nearest(missing.front(), names), ", "));
  }
  std::vector<Site> chosen;
  for (const Site& site : sites)
    if (matches(site)) chosen.push_back(site);
  return chosen;
}

}  // namespace vyx
