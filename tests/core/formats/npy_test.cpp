#include "core/formats/npy.h"

#include "tests/test_support.h"

using vyx::ElementType;
using vyx::test::contains;
using vyx::test::error_of;

namespace {

std::string npy(std::string_view header, size_t data = 0) {
  std::string bytes = "\x93NUMPY\1";
  bytes += '\0';
  bytes += static_cast<char>(header.size() & 0xff);
  bytes += static_cast<char>(header.size() >> 8);
  return bytes + std::string(header) + std::string(data, 'x');
}

vyx::NpyArray parse(const std::string& bytes) {
  return vyx::parse_npy(std::as_bytes(std::span(bytes)), "x.npy");
}
std::string refusal(const std::string& bytes) {
  return error_of([&] { parse(bytes); });
}

}  // namespace

TEST_CASE("[core.npy] headers as NumPy writes them") {
  const std::string bytes =
      npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }   \n", 24);
  const vyx::NpyArray array = parse(bytes);
  CHECK(array.type == ElementType::f32);
  CHECK(array.shape == std::vector<int64_t>{2, 3});
  CHECK(array.data.size() == 24);
  CHECK(parse(npy("{'descr': '<f2', 'fortran_order': False, 'shape': (3,), }\n", 6)).shape ==
        std::vector<int64_t>{3});
  CHECK(parse(npy("{'descr': '<f8', 'fortran_order': False, 'shape': (), }\n", 8)).shape.empty());
  CHECK(parse(npy("{'shape': (0, 4), 'fortran_order': False, 'descr': '<i8'}\n")).type ==
        ElementType::i64);
  CHECK_FALSE(array.fortran_order);
  CHECK(parse(npy("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }", 24)).fortran_order);
}

TEST_CASE("[core.npy] what is written is read back, aligned to 64 bytes") {
  for (const std::vector<int64_t>& shape : {std::vector<int64_t>{}, {7}, {2, 3}}) {
    const std::string header = vyx::npy_header(ElementType::f32, shape);
    CHECK(header.size() % 64 == 0);
    const std::string bytes = header + std::string(*vyx::byte_count(ElementType::f32, shape), 'x');
    CHECK(parse(bytes).shape == shape);
  }
  CHECK(contains(error_of([] { vyx::npy_header(ElementType::bf16, {}); }), "found BF16"));
}

TEST_CASE("[core.npy.hostile] what is not such an array is refused") {
  CHECK(contains(refusal("\x93NUMPX"), "expected an .npy array"));
  CHECK(contains(refusal(npy("{'descr': '>f4', 'fortran_order': False, 'shape': (2,), }", 8)),
                 "found elements of type \">f4\""));
  CHECK(contains(refusal(npy("{'descr': '|O', 'fortran_order': False, 'shape': (2,), }", 8)),
                 "found elements of type \"|O\""));
  CHECK(contains(
      refusal(npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }", 8)),
      "expected \"'\""));
  CHECK(contains(refusal(npy("{'descr': '<f4', 'fortran_order': 1, 'shape': (2,), }", 8)),
                 "expected \"False\""));
  CHECK(contains(refusal(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", 8)),
                 "found 8 bytes of data, expected what [3] of F32 takes"));
  CHECK(contains(refusal(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }", 8)),
                 "sizes from 0"));
  CHECK(contains(
      refusal(
          npy("{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4), }", 0)),
      "expected what"));
  CHECK(contains(
      refusal(
          npy("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }", 0)),
      "sizes from 0"));
  CHECK(contains(refusal(npy("{'descr': '<f4', 'descr': '<f4', 'shape': (2,), }", 8)),
                 "each key once"));
  CHECK(contains(refusal(npy("{'descr': '<f4', 'shape': (2,), }", 8)), "expected the keys"));
  CHECK(contains(refusal(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), } x", 8)),
                 "the end of the header"));
  const std::string good = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", 8);
  for (size_t size = 0; size < good.size(); ++size)
    CHECK_FALSE(refusal(good.substr(0, size)).empty());
  for (size_t at = 0; at < good.size(); ++at)
    for (const int flip : {1, 2, 16, 128}) {
      std::string bytes = good;
      bytes[at] = static_cast<char>(bytes[at] ^ flip);
      const std::string message = error_of([&] {
        const vyx::NpyArray array = parse(bytes);
        CHECK(array.data.size() <= bytes.size());
        CHECK(vyx::byte_count(array.type, array.shape) == array.data.size());
      });
      CHECK_FALSE(contains(message, "\n"));
    }
}
