// What a program may show on a terminal, whatever the files that it reads hold.
#pragma once

namespace vyx::apps {

/// From now on all that is printed on stdout passes through `printable` (core/base/text.h), at once
/// and for all that prints: tables, names, generated text, JSON. Prints and warnings of TorchScript
/// go to stderr as lines of that kind. A stdout that is closed is one that cannot be written to.
void guard_terminal();

}  // namespace vyx::apps
