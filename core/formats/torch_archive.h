// Files of Python's torch.save (.pt, .pth) that hold tensors and plain values, such as a
// state_dict. They are pickles in a zip archive; the few opcodes and names that such files are made
// of are read here, and nothing is ever run or made that they name. LibTorch's own unpickler
// neither reads the state_dict of a module nor checks what a file claims about the sizes of its
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

/// A view of a storage: element i of the shape stands at offset + Σ i_k·strides_k, which is inside.
/// No two elements share a place.
struct TorchTensor {
  ElementType type = ElementType::f32;
  std::vector<int64_t> shape, strides;  // in elements
  int64_t offset = 0;                   // in elements
  std::span<const std::byte> storage;   // little-endian
};

struct TorchArchive {
  std::map<std::string, TorchTensor>
      tensors;  // by their keys, joined with dots where dictionaries nest
  Json values =
      Json::object();  // everything else in the dictionary: numbers, texts, lists, dictionaries
};

/// `bytes` of a file of torch.save with a dictionary in it; storages stay in them. Throws Error
/// naming `source`, what was found and what was expected: for a damaged archive, for tensors that
/// do not fit their records, for any object that is not a tensor or a plain value.
TorchArchive parse_torch_archive(std::span<const std::byte> bytes, std::string source);

/// Writes a file that torch.load(path, weights_only=True) reads as one dictionary, atomically; the
/// same content gives the same bytes.
void write_torch_archive(const std::filesystem::path& path, const TorchArchive& archive);

}  // namespace vyx
