// Tensors in files: safetensors, NumPy's .npz and PyTorch's .pt as maps from names to at::Tensor.
// The parsers, which trust nothing, are core/formats/safetensors.h, core/formats/npy.h and
// core/formats/torch_archive.h.
#pragma once
#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "core/base/json_guard.h"
#include "core/formats/element_type.h"
#include "core/formats/safetensors.h"

namespace vyx {

/// By name. Tensors that are read are on the CPU, contiguous, and own their memory.
using TensorMap = std::map<std::string, at::Tensor>;

/// nullopt: there is no such type on the other side.
std::optional<at::ScalarType> scalar_type_of(ElementType type);
std::optional<ElementType> element_type_of(at::ScalarType type);

/// A copy of the entry's data, of the entry's type and shape. Throws Error naming `source` for a
/// type that LibTorch lacks.
at::Tensor to_tensor(const SafetensorsTensor& entry, std::string_view source);

struct SafetensorsContent {
  TensorMap tensors;
  SafetensorsMetadata metadata;
};
SafetensorsContent read_safetensors(const std::filesystem::path& path);
/// Through AtomicFile; the same tensors give the same bytes.
void write_safetensors(const std::filesystem::path& path, const TensorMap& tensors,
                       const SafetensorsMetadata& metadata = {});

/// "W_enc.npy" in the archive is the tensor "W_enc".
TensorMap read_npz(const std::filesystem::path& path);
void write_npz(const std::filesystem::path& path, const TensorMap& tensors);

struct TorchContent {
  TensorMap tensors;             // by path: core/formats/torch_archive.h
  Json values = Json::object();  // everything that is not a tensor
};
/// A file of torch.save: a state_dict or another dictionary.
TorchContent read_torch(const std::filesystem::path& path);
/// A file that torch.load(path, weights_only=True) reads as one dictionary.
void write_torch(const std::filesystem::path& path, const TorchContent& content);

}  // namespace vyx
