// What a file that is given as text really is: another kind of file is named, with what to do, and
// never taken for prose.
#pragma once
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace vyx {

inline constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

/// Throws Error naming `path` and what it is, if `start`, the first bytes of the file (unpacked, if
/// it is gzip), are no UTF-8 text: UTF-16, Parquet, PDF, another packed file, a model, a picture,
/// or bytes of which more than a tenth are of no text.
void require_text(std::string_view start, const std::filesystem::path& path);

/// Throws Error also for text that is no prose: a JSON array or object, by its first bytes, and
/// tables, by the file's name.
void require_prose(std::string_view start, const std::filesystem::path& path);

/// The whole of a text file that is prose, plain or gzip: without its byte order mark, and with
/// "\n" where lines end. Throws Error for what is none (require_prose), and naming the line for
/// bytes that are not UTF-8.
std::string read_prose(const std::filesystem::path& path);

}  // namespace vyx
