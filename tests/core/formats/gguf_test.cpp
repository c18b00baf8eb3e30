#include "tests/test_support.h"

#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>

#include "tests/core/formats/gguf_builder.h"

using namespace vyx;
using vyx::test::contains;
using vyx::test::error_of;
using vyx::test::parse;
using vyx::test::TemporaryFolder;

namespace {

template <class T>
std::span<const std::byte> bytes_of(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}

std::vector<float> expand(GgmlType type, std::string_view bytes, size_t elements) {
  std::vector<float> out(elements);
  dequantize(type, std::as_bytes(std::span(bytes)), out);
  return out;
}

// IEEE half precision, the slow way.
float half(uint16_t bits) {
  const int exponent = bits >> 10 & 31;
  const int fraction = bits & 1023;
  const float magnitude = exponent == 0
                              ? std::ldexp(static_cast<float>(fraction), -24)
                              : std::ldexp(static_cast<float>(1024 + fraction), exponent - 25);
  return bits & 0x8000 ? -magnitude : magnitude;
}

}  // namespace

TEST_CASE("[core.gguf] what is written is read back: every value type") {
  const GgufMetadata metadata = {
      {"u8", uint8_t{255}},
      {"i8", int8_t{-128}},
      {"u16", uint16_t{65535}},
      {"i16", int16_t{-32768}},
      {"u32", uint32_t{4294967295}},
      {"i32", std::numeric_limits<int32_t>::min()},
      {"f32", 0.1f},
      {"bool", true},
      {"str", std::string("caf\xc3\xa9 \0 end", 11)},
      {"u64", std::numeric_limits<uint64_t>::max()},
      {"i64", std::numeric_limits<int64_t>::min()},
      {"f64", 0.1},
      {"[u8]", GgufArray(std::vector<uint8_t>{0, 255})},
      {"[i8]", GgufArray(std::vector<int8_t>{-128, 127})},
      {"[u16]", GgufArray(std::vector<uint16_t>{65535})},
      {"[i16]", GgufArray(std::vector<int16_t>{-32768})},
      {"[u32]", GgufArray(std::vector<uint32_t>{1, 2, 3})},
      {"[i32]", GgufArray(std::vector<int32_t>{-1})},
      {"[f32]", GgufArray(std::vector<float>{1.5f, -2.5f})},
      {"[bool]", GgufArray(std::vector<bool>{true, false, true})},
      {"[str]", GgufArray(std::vector<std::string>{"", "two"})},
      {"[u64]", GgufArray(std::vector<uint64_t>{})},
      {"[i64]", GgufArray(std::vector<int64_t>{-1})},
      {"[f64]", GgufArray(std::vector<double>{1e300})},
  };
  const Gguf gguf = parse(gguf_bytes(metadata, {}));
  CHECK(gguf.version() == 3);
  CHECK(gguf.metadata() == metadata);
  for (const auto& [key, value] : gguf.metadata()) CHECK(type_name(value) == key);
  CHECK(*gguf.find("u8") == GgufValue(uint8_t{255}));
  CHECK(gguf.find("u9") == nullptr);
}

TEST_CASE("[core.gguf] tensors keep their order, shape and bytes, aligned to 32") {
  std::vector<float> a(6), b(1, 7.0f);
  std::iota(a.begin(), a.end(), 0.0f);
  const std::vector<uint8_t> c(2 * 20, 3);
  const std::string bytes = gguf_bytes({}, {{"z", {3, 2}, GgmlType::f32, bytes_of(a)},
                                            {"a", {1, 1, 1, 1}, GgmlType::f32, bytes_of(b)},
                                            {"m", {32, 2}, GgmlType::q4_1, bytes_of(c)}});
  const Gguf gguf = parse(bytes);
  REQUIRE(gguf.tensors().size() == 3);
  const GgufTensor& z = gguf.tensors()[0];
  CHECK(z.name == "z");
  CHECK(z.shape == std::vector<uint64_t>{3, 2});
  CHECK(z.elements() == 6);
  CHECK(std::equal(z.data.begin(), z.data.end(), bytes_of(a).begin(), bytes_of(a).end()));
  CHECK(gguf.tensors()[1].shape == std::vector<uint64_t>{1, 1, 1, 1});
  const GgufTensor& m = gguf.tensor("m");
  CHECK(m.type == GgmlType::q4_1);
  CHECK(std::equal(m.data.begin(), m.data.end(), bytes_of(c).begin(), bytes_of(c).end()));
  for (const GgufTensor& tensor : gguf.tensors()) {
    CHECK(tensor.offset % 32 == 0);
    CHECK(reinterpret_cast<const char*>(tensor.data.data()) == bytes.data() + tensor.offset);
  }
  CHECK(bytes.size() % 32 == 0);
  CHECK(gguf.find_tensor("y") == nullptr);
  CHECK(error_of([&] { gguf.tensor("y"); }) ==
        "x.gguf: tensor \"y\": found nothing, expected it in the file");
}

TEST_CASE("[core.gguf] metadata is asked for by meaning, not by width") {
  const Gguf gguf = parse(gguf_bytes({{"u8", uint8_t{7}},
                                      {"i64", int64_t{30}},
                                      {"negative", int32_t{-3}},
                                      {"f32", 0.5f},
                                      {"nan", std::numeric_limits<double>::quiet_NaN()},
                                      {"bool", true},
                                      {"name", std::string("llama")},
                                      {"list", GgufArray(std::vector<int32_t>{1, 2})},
                                      {"halves", GgufArray(std::vector<float>{0.5f, -1})},
                                      {"wide", GgufArray(std::vector<uint64_t>{uint64_t(-1)})},
                                      {"names", GgufArray(std::vector<std::string>{"1"})}},
                                     {}));
  CHECK(gguf.unsigned_integer("u8", 0, 7) == 7);
  CHECK(gguf.unsigned_integer("i64", 1, 512) == 30);
  CHECK(gguf.number("f32") == 0.5);
  CHECK(gguf.number("negative") == -3);
  CHECK(gguf.string("name") == "llama");
  CHECK(gguf.array<int32_t>("list") == std::vector<int32_t>{1, 2});
  CHECK(gguf.integers("list") == std::vector<int64_t>{1, 2});
  CHECK(gguf.numbers("list") == std::vector<double>{1, 2});
  CHECK(gguf.numbers("halves") == std::vector<double>{0.5, -1});
  CHECK(error_of([&] { gguf.integers("halves"); }) ==
        "x.gguf: metadata \"halves\": found the type [f32], expected an array of integers");
  for (const char* key : {"u8", "names", "wide", "absent"})
    CHECK(contains(error_of([&] { gguf.integers(key); }), "expected an array of integers"));
  CHECK(contains(error_of([&] { gguf.numbers("names"); }), "expected an array of numbers"));

  CHECK(error_of([&] { gguf.unsigned_integer("u8", 8, 9); }) ==
        "x.gguf: metadata \"u8\": found 7 (u8), expected an integer from 8 to 9");
  CHECK(error_of([&] { gguf.unsigned_integer("negative", 0, 9); }) ==
        "x.gguf: metadata \"negative\": found -3 (i32), expected an integer from 0 to 9");
  for (const char* key : {"f32", "bool", "name", "list", "absent"})
    CHECK(contains(error_of([&] { gguf.unsigned_integer(key, 0, 9); }),
                   "expected an integer from 0 to 9"));
  for (const char* key : {"nan", "bool", "name", "list", "absent"})
    CHECK(contains(error_of([&] { gguf.number(key); }), "expected a finite number"));
  CHECK(error_of([&] { gguf.string("absent"); }) ==
        "x.gguf: metadata \"absent\": found nothing, expected a string");
  CHECK(error_of([&] { gguf.string("bool"); }) ==
        "x.gguf: metadata \"bool\": found true (bool), expected a string");
  CHECK(error_of([&] { gguf.array<std::string>("list"); }) ==
        "x.gguf: metadata \"list\": found the type [i32], expected an array [str]");
}

TEST_CASE("[core.gguf] the writer refuses what the parser would, and leaves no file") {
  const TemporaryFolder folder;
  const std::vector<float> data(4);
  const auto refusal = [&](const GgufMetadata& metadata,
                           const std::vector<GgufTensorData>& tensors) {
    const std::string message = error_of([&] { write_gguf(folder / "x.gguf", metadata, tensors); });
    CHECK(std::filesystem::is_empty(folder.path()));
    return message;
  };
  CHECK(contains(refusal({}, {{"t", {5}, GgmlType::f32, bytes_of(data)}}),
                 "x.gguf: tensor \"t\": found 16 bytes of F32, expected what its shape [5] takes"));
  CHECK(contains(
      refusal({},
              {{"t", {uint64_t{1} << 32, (uint64_t{1} << 32) + 4}, GgmlType::f32, bytes_of(data)}}),
      "its shape"));
  CHECK(contains(refusal({}, {{"t", {}, GgmlType::f32, bytes_of(data).first(4)}}),
                 "number of dimensions: found 0"));
  CHECK(contains(refusal({}, {{std::string(64, 't'), {4}, GgmlType::f32, bytes_of(data)}}),
                 "name: found length 64"));
  CHECK(contains(refusal({{"", 1.0f}}, {}), "key: found length 0"));
  CHECK(contains(refusal({{"a", 1.0f}, {"a", 2.0f}}, {}), "key: found \"a\" again"));
  CHECK(contains(refusal({{"general.alignment", uint32_t{64}}}, {}),
                 "expected u32 32, which is what vyx writes"));
}

TEST_CASE("[core.gguf] a file on disk is mapped and checked") {
  const TemporaryFolder folder;
  const std::vector<float> data = {1, 2, 3};
  write_gguf(folder / "x.gguf", {{"general.alignment", uint32_t{32}}},
             {{"t", {3}, GgmlType::f32, bytes_of(data)}});
  GgufFile file(folder / "x.gguf");
  const GgufFile moved = std::move(file);
  std::vector<float> out(3);
  dequantize(GgmlType::f32, moved->tensor("t").data, out);
  CHECK(out == data);

  write_file(folder / "text", "hello");
  CHECK(contains(error_of([&] { GgufFile text(folder / "text"); }),
                 "/text: at byte 0: magic: found \"hell\""));
}

TEST_CASE("[core.gguf] the directory alone can be checked against a file's size") {
  const std::vector<float> data(100);
  const std::string bytes = gguf_bytes({}, {{"t", {100}, GgmlType::f32, bytes_of(data)}});
  const auto head = std::as_bytes(std::span(bytes)).first(64);
  const Gguf gguf = Gguf::parse_directory(head, bytes.size(), "x.gguf");
  CHECK(gguf.tensor("t").offset == 64);
  CHECK(gguf.tensor("t").bytes() == 400);
  CHECK(gguf.tensor("t").data.empty());
  CHECK(contains(error_of([&] { Gguf::parse_directory(head, 463, "x.gguf"); }),
                 "is the file complete?"));
}

TEST_CASE("[core.gguf.quantization] F32 and BF16") {
  const std::vector<float> values = {0.0f, -0.0f, 1.5f, std::numeric_limits<float>::infinity()};
  std::vector<float> out(4);
  dequantize(GgmlType::f32, bytes_of(values), out);
  CHECK(std::memcmp(out.data(), values.data(), sizeof(float) * 4) == 0);
  CHECK(expand(GgmlType::bf16, std::string_view("\x80\x3f\x20\xc0", 4), 2) ==
        std::vector<float>{1.0f, -2.5f});
}

TEST_CASE("[core.gguf.quantization] F16: all 65536 of them") {
  std::vector<uint16_t> halves(65536);
  std::iota(halves.begin(), halves.end(), uint16_t{0});
  std::vector<float> out(halves.size());
  dequantize(GgmlType::f16, bytes_of(halves), out);
  for (uint32_t i = 0; i < 65536; ++i) {
    const auto bits = std::bit_cast<uint32_t>(out[i]);
    const uint32_t sign = (i & 0x8000) << 16;
    const uint32_t expected = (i & 0x7C00) == 0x7C00
                                  ? sign | 0x7F800000 | (i & 1023) << 13
                                  : std::bit_cast<uint32_t>(half(static_cast<uint16_t>(i)));
    if (bits != expected) FAIL_CHECK("half ", i, ": ", bits, " instead of ", expected);
  }
}

TEST_CASE("[core.gguf.quantization] Q4_0, Q4_1 and Q8_0 blocks, by hand") {
  std::string nibbles;  // element i is i % 16: low nibbles first
  for (int i = 0; i < 16; ++i) nibbles += static_cast<char>(i | i << 4);
  const std::string half_scale("\x00\x38", 2);  // 0.5
  const std::string minus_two("\x00\xc0", 2);   // -2.0

  const std::vector<float> q4_0 = expand(GgmlType::q4_0, half_scale + nibbles, 32);
  const std::vector<float> q4_1 = expand(GgmlType::q4_1, half_scale + minus_two + nibbles, 32);
  for (int i = 0; i < 32; ++i) {
    CHECK(q4_0[static_cast<size_t>(i)] == 0.5f * static_cast<float>(i % 16 - 8));
    CHECK(q4_1[static_cast<size_t>(i)] == 0.5f * static_cast<float>(i % 16) - 2.0f);
  }

  std::string bytes;
  for (int i = 0; i < 32; ++i) bytes += static_cast<char>(i * 8 - 128);
  // two blocks: the second must start where the first ends
  const std::vector<float> q8_0 =
      expand(GgmlType::q8_0, half_scale + bytes + minus_two + bytes, 64);
  for (int i = 0; i < 32; ++i) {
    CHECK(q8_0[static_cast<size_t>(i)] == 0.5f * static_cast<float>(i * 8 - 128));
    CHECK(q8_0[static_cast<size_t>(32 + i)] == -2.0f * static_cast<float>(i * 8 - 128));
  }
}

TEST_CASE("[core.gguf.quantization] unaligned data") {
  const std::string bytes("x\x00\x00\x80\x3f\x00\x00\x00\x40", 9);
  CHECK(expand(GgmlType::f32, std::string_view(bytes).substr(1), 2) ==
        std::vector<float>{1.0f, 2.0f});
}

TEST_CASE("[core.gguf.quantization] sizes that do not fit and types that vyx cannot read") {
  const std::string block(18, '\0');
  for (const auto& [bytes, elements] :
       {std::pair{18, 31}, {18, 33}, {18, 64}, {17, 32}, {19, 32}, {36, 32}, {18, 0}}) {
    const std::string data(static_cast<size_t>(bytes), '\0');
    CHECK(contains(
        error_of([&] { expand(GgmlType::q4_0, data, static_cast<size_t>(elements)); }),
        fmt::format(
            "dequantize: found {} bytes of Q4_0 for {} elements, expected 18 bytes for each 32",
            bytes, elements)));
  }
  CHECK_FALSE(can_dequantize(GgmlType::q4_k));
  CHECK(can_dequantize(GgmlType::bf16));
  CHECK(error_of([&] { expand(GgmlType::q4_k, std::string(144, '\0'), 256); }) ==
        "dequantize: found type Q4_K, expected F32, F16, BF16, Q4_0, Q4_1 or Q8_0; quantize the "
        "model to one of these");
}

TEST_CASE("[core.gguf.quantization] every type of ggml has a name and a block") {
  size_t known = 0;
  for (uint32_t type = 0; type < 256; ++type) {
    const auto block = block_of(type);
    if (!block) continue;
    ++known;
    CHECK(block->elements > 0);
    CHECK(block->bytes > 0);
    CHECK_FALSE(name_of(static_cast<GgmlType>(type)).empty());
  }
  CHECK(known == 34);
  CHECK(block_of(14)->bytes == 210);  // Q6_K
}
