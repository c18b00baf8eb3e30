// Files of Python's torch.save (.pt, .pth) that hold tensors and plain values, such as a
// state_dict. They are pickles in a zip archive. Only the few opcodes and names that such files
// need are read here; nothing that a file names is run or made. LibTorch's own unpickler does not
// read the state_dict of a module, and does not check what a file says about the sizes of its
// tensors.
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "core/base/json_guard.h"
#include "core/formats/element_type.h"

namespace vyx {

/// A view of a storage: the element with the indices i stands at offset + Σ_k i_k·strides_k, which
/// is inside the storage. No two elements share a place.
struct TorchTensor {
  ElementType type = ElementType::f32;
  std::vector<int64_t> shape, strides;  // in elements
  int64_t offset = 0;                   // in elements
  std::span<const std::byte> storage;   // little-endian
};

struct TorchArchive {
  // By their keys, joined with dots where dictionaries nest.
  std::map<std::string, TorchTensor> tensors;
  // Everything else in the dictionary: numbers, texts, lists, dictionaries.
  Json values = Json::object();
};

/// `bytes` of a file of torch.save with a dictionary in it; storages stay in them. Throws Error
/// naming `source`, what was found and what was expected: for a damaged archive, for tensors that
/// do not fit their records, for any object that is not a tensor or a plain value.
TorchArchive parse_torch_archive(std::span<const std::byte> bytes, std::string source);

/// Writes a file that torch.load(path, weights_only=True) reads as one dictionary, atomically; the
/// same content gives the same bytes.
void write_torch_archive(const std::filesystem::path& path, const TorchArchive& archive);

}  // namespace vyx
