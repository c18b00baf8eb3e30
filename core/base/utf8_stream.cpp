#include "core/base/utf8_stream.h"

#include "core/base/utf8.h"

namespace vyx {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

}  // namespace

std::string Utf8Stream::push(std::string_view bytes) {
  pending_.append(bytes);
  const std::string_view all = pending_;
  std::string text;
  size_t at = 0;
  while (at < all.size()) {
    const Utf8Step step = utf8_step(all.substr(at));
    if (step.cut_off) break;
    text.append(step.well_formed ? all.substr(at, step.length) : kReplacement);
    at += step.length;
  }
  pending_.erase(0, at);
  return text;
}

std::string Utf8Stream::finish() {
  // What is pending is always the beginning of one character, hence one replacement.
  const bool unfinished = !pending_.empty();
  pending_.clear();
  return unfinished ? std::string(kReplacement) : std::string();
}

std::string valid_utf8(std::string_view text) {
  Utf8Stream stream;
  std::string valid = stream.push(text);
  return valid += stream.finish();
}

}  // namespace vyx
