#include "core/hooks/script_error.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <new>
#include <string_view>

namespace vyx {

std::string reason_of(const std::exception& error) {
  const auto* torch_error = dynamic_cast<const c10::Error*>(&error);
  std::string_view text = torch_error ? torch_error->what_without_backtrace() : error.what();
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr ||
      text.find("DefaultCPUAllocator: ") != std::string_view::npos)
    return "out of memory";
  // The interpreter's traceback ends in this word and the reason; those of forked branches are
  // nested.
  constexpr std::string_view kBeforeReason = "RuntimeError: ";
  if (const size_t at = text.rfind(kBeforeReason); at != std::string_view::npos) {
    text.remove_prefix(at + kBeforeReason.size());
  }
  text.remove_prefix(std::min(text.find_first_not_of(" \n"), text.size()));
  return std::string(text.substr(0, text.find('\n')));
}

}  // namespace vyx
