// The reading half of torch_archive.h.
#pragma once
#include <cstddef>
#include <span>
#include <string>

#include "core/formats/torch_archive.h"
#include "core/formats/zip.h"

namespace vyx {

/// The dictionary that `pickle` makes, with tensors that lie in the records `folder`data/… of
/// `zip`. Throws Error as parse_torch_archive.
TorchArchive unpickle(std::span<const std::byte> pickle, const ZipArchive& zip, std::string folder);

}  // namespace vyx
