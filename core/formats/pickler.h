// The writing half of torch_archive.h.
#pragma once
#include <string>

#include "core/formats/torch_archive.h"

namespace vyx {

/// The pickle of `archive` as one dictionary; tensor i of its map, in order, is the record named i.
/// Throws Error for a type of element that torch has no storage for.
std::string pickle(const TorchArchive& archive);

}  // namespace vyx
