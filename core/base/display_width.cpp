#include "core/base/display_width.h"

#include "core/base/utf8.h"

namespace vyx {

size_t display_width(std::string_view text) {
  size_t width = 0;
  for (; !text.empty(); ++width) text.remove_prefix(utf8_step(text).length);
  return width;
}

}  // namespace vyx
