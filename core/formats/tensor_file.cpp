#include "core/formats/tensor_file.h"

#include <ATen/Functions.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <numeric>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/base/text.h"
#include "core/formats/npy.h"
#include "core/formats/torch_archive.h"
#include "core/formats/zip.h"

namespace vyx {
namespace {

constexpr std::pair<ElementType, at::ScalarType> kTypes[] = {
    {ElementType::f32, at::kFloat},
    {ElementType::f64, at::kDouble},
    {ElementType::f16, at::kHalf},
    {ElementType::bf16, at::kBFloat16},
    {ElementType::i64, at::kLong},
    {ElementType::i32, at::kInt},
    {ElementType::i16, at::kShort},
    {ElementType::i8, at::kChar},
    {ElementType::u8, at::kByte},
    {ElementType::u16, at::kUInt16},
    {ElementType::u32, at::kUInt32},
    {ElementType::u64, at::kUInt64},
    {ElementType::boolean, at::kBool},
    {ElementType::c64, at::kComplexFloat},
    {ElementType::f8_e4m3, at::kFloat8_e4m3fn},
    {ElementType::f8_e5m2, at::kFloat8_e5m2}};

// What the tensors of a torch archive may take together: a few views of each record.
constexpr uint64_t kMaxCopies = 4, kMaxCopiedBytes = 16u << 20;

/// A copy, since data in a file may begin at any byte, and the file may be closed.
at::Tensor copy(ElementType type, at::IntArrayRef shape, std::span<const std::byte> data,
                std::string_view source, std::string_view name) {
  const std::optional<at::ScalarType> scalar_type = scalar_type_of(type);
  if (!scalar_type)
    fail("{}: tensor {}: found {}, expected a type that LibTorch computes with", source,
         quote(name), name_of(type));
  at::Tensor tensor = at::empty(shape, *scalar_type);
  if (tensor.nbytes() != data.size())
    fail("{}: tensor {}: found {} bytes, expected {}", source, quote(name), data.size(),
         tensor.nbytes());
  if (!data.empty()) std::memcpy(tensor.mutable_data_ptr(), data.data(), data.size());
  return tensor;
}

/// A copy of a view of a storage, of the view's elements alone.
at::Tensor copy(const TorchTensor& view, const std::string& source, const std::string& name) {
  const uint64_t bytes = bits_of(view.type) / 8, count = *element_count(view.shape);
  uint64_t reach = 0;  // of the last element, from the first
  for (size_t i = 0; i < view.shape.size(); ++i)
    if (count > 0) reach += static_cast<uint64_t>((view.shape[i] - 1) * view.strides[i]);
  const auto part = count == 0 ? view.storage.first(0)
                               : view.storage.subspan(static_cast<uint64_t>(view.offset) * bytes,
                                                      (reach + 1) * bytes);
  if (reach + 1 == count || count == 0) {
    const auto elements = static_cast<int64_t>(count);
    return copy(view.type, {elements}, part, source, name)
        .as_strided(view.shape, view.strides)
        .contiguous();
  }
  // With gaps: element by element, since the data in a file may begin at any byte.
  at::Tensor tensor = copy(view.type, {0}, {}, source, name).resize_(view.shape);
  auto* out = static_cast<std::byte*>(tensor.mutable_data_ptr());
  std::vector<int64_t> at(view.shape.size());
  for (uint64_t i = 0, from = 0; i < count; ++i, out += bytes) {
    std::memcpy(out, part.data() + from * bytes, bytes);
    for (size_t k = at.size(); k-- > 0;) {
      from += static_cast<uint64_t>(view.strides[k]);
      if (++at[k] < view.shape[k]) break;
      from -= static_cast<uint64_t>(view.shape[k] * view.strides[k]);
      at[k] = 0;
    }
  }
  return tensor;
}

ElementType type_to_write(const at::Tensor& tensor, std::string_view source,
                          const std::string& name) {
  const std::optional<ElementType> type = element_type_of(tensor.scalar_type());
  if (!type)
    fail("{}: tensor {}: found {}, expected a type that such files have", source, quote(name),
         c10::toString(tensor.scalar_type()));
  return *type;
}

std::span<const std::byte> bytes_of(const at::Tensor& contiguous) {
  return {static_cast<const std::byte*>(contiguous.const_data_ptr()), contiguous.nbytes()};
}

/// The tensors as they are written: on the CPU, contiguous. The result must live as long as views
/// of it.
TensorMap packed(const TensorMap& tensors) {
  TensorMap result;
  for (const auto& [name, tensor] : tensors)
    result.emplace(name, tensor.detach().to(at::kCPU).contiguous());
  return result;
}

}  // namespace

std::optional<at::ScalarType> scalar_type_of(ElementType type) {
  const auto* found = std::find_if(std::begin(kTypes), std::end(kTypes),
                                   [&](const auto& each) { return each.first == type; });
  return found == std::end(kTypes) ? std::nullopt : std::optional(found->second);
}

std::optional<ElementType> element_type_of(at::ScalarType type) {
  const auto* found = std::find_if(std::begin(kTypes), std::end(kTypes),
                                   [&](const auto& each) { return each.second == type; });
  return found == std::end(kTypes) ? std::nullopt : std::optional(found->first);
}

at::Tensor to_tensor(const SafetensorsTensor& entry, std::string_view source) {
  return copy(entry.type, entry.shape, entry.data, source, entry.name);
}

SafetensorsContent read_safetensors(const std::filesystem::path& path) {
  const SafetensorsFile file(path);
  SafetensorsContent content;
  content.metadata = file->metadata();
  for (const SafetensorsTensor& entry : file->tensors())
    content.tensors.emplace(entry.name, to_tensor(entry, file->source()));
  return content;
}

void write_safetensors(const std::filesystem::path& path, const TensorMap& tensors,
                       const SafetensorsMetadata& metadata) {
  const TensorMap contiguous = packed(tensors);
  std::vector<SafetensorsTensor> entries;
  for (const auto& [name, tensor] : contiguous)
    entries.push_back({{name, type_to_write(tensor, path.string(), name), tensor.sizes().vec()},
                       bytes_of(tensor)});
  write_safetensors(path, std::move(entries), metadata);
}

TensorMap read_npz(const std::filesystem::path& path) {
  constexpr std::string_view kSuffix = ".npy";
  const MappedFile file(path);
  const ZipArchive zip = ZipArchive::parse(file.bytes(), path.string());
  TensorMap tensors;
  for (const ZipEntry& entry : zip.entries()) {
    if (!entry.name.ends_with(kSuffix))
      fail("{}: found the entry {}, expected arrays in .npy files", path.string(),
           quote(entry.name));
    const ZipContent content = zip.read(entry);
    const std::string source = fmt::format("{}: entry {}", path.string(), quote(entry.name));
    const NpyArray array = parse_npy(content.bytes, source);
    const std::string name = entry.name.substr(0, entry.name.size() - kSuffix.size());
    // Read backwards, an array in Fortran order is one in C order.
    std::vector<int64_t> shape = array.shape, axes(shape.size());
    std::iota(axes.rbegin(), axes.rend(), 0);
    if (array.fortran_order) std::reverse(shape.begin(), shape.end());
    const at::Tensor stored = copy(array.type, shape, array.data, path.string(), name);
    tensors.emplace(name, array.fortran_order ? stored.permute(axes).contiguous() : stored);
  }
  return tensors;
}

void write_npz(const std::filesystem::path& path, const TensorMap& tensors) {
  ZipWriter zip(path);
  for (const auto& [name, tensor] : packed(tensors)) {
    std::string array = npy_header(type_to_write(tensor, path.string(), name), tensor.sizes());
    const auto data = bytes_of(tensor);
    array.append(reinterpret_cast<const char*>(data.data()), data.size());
    zip.add(name + ".npy", array);
  }
  zip.commit();
}

TorchContent read_torch(const std::filesystem::path& path) {
  const MappedFile file(path);
  TorchArchive archive = parse_torch_archive(file.bytes(), path.string());
  TorchContent content;
  content.values = std::move(archive.values);
  // Each tensor is a copy, and a record may be referred to any number of times.
  const uint64_t most = kMaxCopies * file.bytes().size() + kMaxCopiedBytes;
  uint64_t bytes = 0;
  for (const auto& [name, view] : archive.tensors) {
    bytes += *byte_count(view.type, view.shape);
    if (bytes > most)
      fail("{}: found tensors of more than {} bytes in a file of {}, expected at most that",
           path.string(), most, file.bytes().size());
    content.tensors.emplace(name, copy(view, path.string(), name));
  }
  return content;
}

void write_torch(const std::filesystem::path& path, const TorchContent& content) {
  const TensorMap contiguous = packed(content.tensors);
  TorchArchive archive;
  archive.values = content.values;
  for (const auto& [name, tensor] : contiguous)
    archive.tensors[name] = {type_to_write(tensor, path.string(), name), tensor.sizes().vec(),
                             tensor.strides().vec(), 0, bytes_of(tensor)};
  write_torch_archive(path, archive);
}

}  // namespace vyx
