#include "core/formats/tensor_file.h"

#include "core/formats/torch_archive.h"
#include "core/formats/zip.h"
#include "core/io/files.h"
#include "tests/torch_support.h"

using vyx::ElementType;
using vyx::TensorMap;
using vyx::test::contains;
using vyx::test::error_of;
using vyx::test::TemporaryFolder;

namespace {

TensorMap samples(bool bfloat16) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(1);
  TensorMap tensors = {{"matrix", at::randn({3, 5}, generator)},
                       {"transposed", at::randn({3, 5}, generator).t()},
                       {"half", at::randn({7}, generator).to(at::kHalf)},
                       {"integers", at::arange(4)},
                       {"scalar", at::scalar_tensor(2.5, at::kDouble)},
                       {"empty", at::zeros({0, 3})}};
  if (bfloat16) tensors["bfloat16"] = at::randn({7}, generator).to(at::kBFloat16);
  return tensors;
}

void check_same(const TensorMap& actual, const TensorMap& expected) {
  CHECK(actual.size() == expected.size());
  for (const auto& [name, tensor] : expected) {
    CHECK((actual.at(name).scalar_type() == tensor.scalar_type()));
    CHECK(actual.at(name).is_contiguous());
    CHECK(at::equal(actual.at(name), tensor));
  }
}

}  // namespace

TEST_CASE("[core.tensor_file] an array in Fortran order is read as the same array") {
  const TemporaryFolder folder;
  // What numpy.savez writes of numpy.arange(6).reshape(3, 2).T: [[0, 2, 4], [1, 3, 5]].
  const std::string header =
      "{'descr': '<i4', 'fortran_order': True, 'shape': (2, 3), }" + std::string(59, ' ') + "\n";
  std::string array = std::string("\x93NUMPY\1\0", 8) + static_cast<char>(header.size()) + '\0';
  array += header;
  for (const char number : {0, 1, 2, 3, 4, 5}) array += {number, '\0', '\0', '\0'};
  vyx::ZipWriter zip(folder / "x.npz");
  zip.add("a.npy", array);
  zip.commit();
  const at::Tensor read = vyx::read_npz(folder / "x.npz").at("a");
  CHECK(read.is_contiguous());
  CHECK(at::equal(read, at::arange(6, at::kInt).reshape({3, 2}).t()));
}

TEST_CASE("[core.tensor_file] safetensors, npz and torch archives give back the tensors") {
  const TemporaryFolder folder;
  vyx::write_safetensors(folder / "x.safetensors", samples(true), {{"key", "value"}});
  check_same(vyx::read_safetensors(folder / "x.safetensors").tensors, samples(true));
  CHECK(vyx::read_safetensors(folder / "x.safetensors").metadata.at("key") == "value");
  vyx::write_npz(folder / "x.npz", samples(false));
  check_same(vyx::read_npz(folder / "x.npz"), samples(false));
  vyx::write_torch(folder / "x.pt", {samples(true), {{"k", 3}}});
  check_same(vyx::read_torch(folder / "x.pt").tensors, samples(true));
  CHECK(vyx::read_torch(folder / "x.pt").values == vyx::Json{{"k", 3}});
}

TEST_CASE("[core.tensor_file] types that the other side lacks are named, and nothing is written") {
  const TemporaryFolder folder;
  CHECK(contains(
      error_of([&] {
        vyx::write_safetensors(folder / "x", TensorMap{{"a", at::zeros({1}, at::kComplexDouble)}});
      }),
      "tensor \"a\": found ComplexDouble"));
  CHECK(contains(error_of([&] {
                   vyx::write_npz(folder / "x", {{"a", at::zeros({1}, at::kBFloat16)}});
                 }),
                 "found BF16"));
  CHECK(std::filesystem::is_empty(folder.path()));
  const std::vector<std::byte> byte(1);
  vyx::write_safetensors(folder / "x", {{{"a", vyx::ElementType::f4, {2}}, byte}});
  CHECK(contains(error_of([&] { vyx::read_safetensors(folder / "x"); }),
                 "tensor \"a\": found F4, expected a type that LibTorch computes with"));
}

// The bytes of a storage that views share, written again for each, as the writer does.
TEST_CASE(
    "[core.tensor_file] a view of a torch archive is copied without the rest of its storage") {
  const TemporaryFolder folder;
  const at::Tensor storage = at::arange(24, at::kFloat);
  const std::span<const std::byte> bytes{static_cast<const std::byte*>(storage.const_data_ptr()),
                                         storage.nbytes()};
  vyx::TorchArchive archive;
  archive.tensors = {{"all", {ElementType::f32, {4, 6}, {6, 1}, 0, bytes}},
                     {"columns", {ElementType::f32, {4, 2}, {6, 3}, 1, bytes}},
                     {"transposed", {ElementType::f32, {6, 4}, {1, 6}, 0, bytes}},
                     {"row", {ElementType::f32, {1, 6}, {999, 1}, 12, bytes}},
                     {"scalar", {ElementType::f32, {}, {}, 23, bytes}},
                     {"none", {ElementType::f32, {0, 3}, {3, 1}, 24, bytes}}};
  write_torch_archive(folder / "x.pt", archive);
  const TensorMap read = vyx::read_torch(folder / "x.pt").tensors;
  for (const auto& [name, view] : archive.tensors) {
    CAPTURE(name);
    const at::Tensor expected = storage.as_strided(view.shape, view.strides, view.offset);
    CHECK(at::equal(read.at(name), expected));
    CHECK(read.at(name).is_contiguous());
    CHECK(read.at(name).storage().nbytes() == expected.numel() * sizeof(float));
  }
}
