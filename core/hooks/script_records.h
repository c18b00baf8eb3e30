// The records of a TorchScript archive as they lie in its zip file, checked. Internal to core.
#pragma once
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "core/formats/zip.h"

namespace vyx {

struct ScriptRecords {
  ZipArchive zip;
  std::string folder;  // "archive/", which all are in
};

/// Throws Error naming `source` for what is no TorchScript archive, for one that is damaged, and
/// for records that LibTorch would find by another name than theirs.
ScriptRecords script_records(std::span<const std::byte> archive, const std::string& source);

struct ScriptCode {
  std::string unit;   // "__torch__.a.b": what its classes' names begin with
  std::string place;  // "model.pt: code/__torch__/a/b.py", for messages
  std::string text;
};
/// All files of code. Throws Error for more than 32 MiB of it.
std::vector<ScriptCode> read_code(const ScriptRecords& records);

}  // namespace vyx
