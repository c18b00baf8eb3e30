#include "core/hooks/script_error.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <new>
#include <string_view>

namespace vyx {

namespace {

/// Where the reason begins in what the interpreter says: behind the traceback's last mark, on a
/// line "builtins.ValueError: reason". npos: there is no such line.
size_t behind_exception_name(std::string_view text) {
  constexpr std::string_view kMark = "<--- HERE\n", kBeforeReason = ": ";
  size_t line = text.rfind(kMark);
  if (line == std::string_view::npos) return line;
  for (line += kMark.size(); line < text.size();
       line = std::min(text.find('\n', line), text.size() - 1) + 1) {
    const size_t end = text.find_first_not_of(
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.", line);
    if (end != std::string_view::npos && end > line && text.substr(end).starts_with(kBeforeReason))
      return end + kBeforeReason.size();
  }
  return std::string_view::npos;
}

}  // namespace

std::string reason_of(const std::exception& error) {
  const auto* torch_error = dynamic_cast<const c10::Error*>(&error);
  std::string_view text = torch_error ? torch_error->what_without_backtrace() : error.what();
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr ||
      text.find("DefaultCPUAllocator: ") != std::string_view::npos)
    return "out of memory";
  // The interpreter's traceback ends in this word, or the name of what was raised, and the reason;
  // those of forked branches are nested.
  constexpr std::string_view kBeforeReason = "RuntimeError: ";
  if (const size_t at = text.rfind(kBeforeReason); at != std::string_view::npos) {
    text.remove_prefix(at + kBeforeReason.size());
  } else if (const size_t reason = behind_exception_name(text); reason != std::string_view::npos) {
    text.remove_prefix(reason);
  }
  text.remove_prefix(std::min(text.find_first_not_of(" \n"), text.size()));
  return std::string(text.substr(0, text.find('\n')));
}

}  // namespace vyx
