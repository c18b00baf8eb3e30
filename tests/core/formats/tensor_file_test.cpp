#include "core/formats/tensor_file.h"

#include "core/io/files.h"
#include "tests/torch_support.h"

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
