// Which files this program has read. Every input comes through MappedFile or read_text_file, which
// note it here: so a file that another one names (a template's beginnings, a store's shard) cannot
// be forgotten.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

namespace vyx {

/// Absolute paths, sorted; without what the program wrote itself, and without /proc and /sys.
std::vector<std::string> files_read();

/// For core/io: a file was opened for reading, or is written.
void note_read(const std::filesystem::path& path);
void note_written(const std::filesystem::path& path);

}  // namespace vyx
