#include "core/formats/safetensors.h"

#include "tests/test_support.h"

#include <cstring>
#include <vector>

#include "core/base/json_guard.h"

using vyx::ElementType;
using vyx::Safetensors;
using vyx::test::contains;
using vyx::test::error_of;

namespace {

// A file of this header and so many bytes of data.
std::string file_of(std::string_view header, size_t data = 0) {
  std::string bytes(8, '\0');
  const uint64_t length = header.size();
  std::memcpy(bytes.data(), &length, 8);
  return bytes + std::string(header) + std::string(data, 'x');
}

Safetensors parse(const std::string& bytes) {
  return Safetensors::parse(std::as_bytes(std::span(bytes)), "x.safetensors");
}

std::string refusal(const std::string& bytes) {
  const std::string message = error_of([&] { parse(bytes); });
  CHECK_FALSE(contains(message, "\n"));
  return message;
}

// One tensor "w" with this entry.
std::string one(std::string_view entry, size_t data) {
  return file_of(fmt::format("{{\"w\":{}}}", entry), data);
}

template <class T>
std::span<const std::byte> bytes_of(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}

}  // namespace

TEST_CASE(
    "[core.safetensors] what is written is read back, aligned and in safetensors' own order") {
  const vyx::test::TemporaryFolder folder;
  const std::vector<float> matrix = {1, 2, 3, 4, 5, 6};
  const std::vector<uint16_t> halves = {1, 2, 3};
  const std::vector<int64_t> number = {-7};
  vyx::write_safetensors(folder / "x",
                         {{{"halves", ElementType::bf16, {3}}, bytes_of(halves)},
                          {{"matrix", ElementType::f32, {2, 3}}, bytes_of(matrix)},
                          {{"empty", ElementType::f32, {0, 4}}, {}},
                          {{"snow☃\"man\n", ElementType::i64, {}}, bytes_of(number)}},
                         {{"format", "pt"}, {"b", "☃"}});
  const vyx::SafetensorsFile file(folder / "x");
  CHECK(file->metadata() == vyx::SafetensorsMetadata{{"format", "pt"}, {"b", "☃"}});
  std::vector<std::string> names;
  for (const auto& tensor : file->tensors()) names.push_back(tensor.name);
  CHECK(names == std::vector<std::string>{"snow☃\"man\n", "empty", "matrix", "halves"});
  const auto& tensor = file->tensor("matrix");
  CHECK(tensor.shape == std::vector<int64_t>{2, 3});
  CHECK(std::memcmp(tensor.data.data(), matrix.data(), 24) == 0);
  CHECK(reinterpret_cast<uintptr_t>(file->tensor("empty").data.data()) % 8 == 0);
  CHECK(file->tensor("halves").data.size() == 6);
  CHECK(contains(error_of([&] { file->tensor("absent"); }),
                 "tensor \"absent\": found nothing, expected it in the file"));
}

TEST_CASE("[core.safetensors] a stream of pieces gives the bytes of one write") {
  const vyx::test::TemporaryFolder folder;
  std::vector<float> values(5000);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  vyx::write_safetensors(folder / "whole",
                         {{{"a", ElementType::f32, {50, 100}}, bytes_of(values)}});
  vyx::SafetensorsWriter writer(folder / "pieces", {{"a", ElementType::f32, {50, 100}}});
  for (std::span<const std::byte> rest = bytes_of(values); !rest.empty();) {
    const size_t size = std::min<size_t>(333, rest.size());
    writer.write(rest.first(size));
    rest = rest.subspan(size);
  }
  CHECK_FALSE(std::filesystem::exists(folder / "pieces"));
  writer.commit();
  CHECK(vyx::read_text_file(folder / "pieces") == vyx::read_text_file(folder / "whole"));
}

TEST_CASE("[core.safetensors] a writer refuses what could not be read, and leaves nothing") {
  const vyx::test::TemporaryFolder folder;
  const auto error = [&](std::vector<vyx::SafetensorsEntry> entries, size_t bytes,
                         vyx::SafetensorsMetadata metadata = {}) {
    return error_of([&] {
      vyx::SafetensorsWriter writer(folder / "x", entries, metadata);
      const std::string data(bytes, 'x');
      writer.write(std::as_bytes(std::span(data)));
      writer.commit();
    });
  };
  CHECK(contains(error({{"a", ElementType::f32, {2}}}, 4),
                 "found the end of the data, expected 4 bytes more"));
  CHECK(contains(error({{"a", ElementType::f32, {2}}}, 12),
                 "found 12 bytes of data, expected at most 8 more"));
  CHECK(contains(error({{"a", ElementType::f32, {1}}, {"a", ElementType::f32, {1}}}, 8),
                 "key \"a\" again"));
  CHECK(contains(error({{"a\xff", ElementType::f32, {1}}}, 4), "found \"a\\xff\", expected UTF-8"));
  CHECK(contains(error({{"__metadata__", ElementType::f32, {1}}}, 4), "expected a string"));
  CHECK(contains(error({{"a", ElementType::f32, {-1}}}, 0), "shape: found -1"));
  CHECK(contains(error({{"a", ElementType::f32, {int64_t{1} << 62, 4}}}, 0), "fewer than 2^61"));
  CHECK(contains(error({{"a", ElementType::f4, {3}}}, 2), "whole bytes"));
  CHECK(contains(error({}, 0, {{"k", "\xff"}}), "expected UTF-8"));
  CHECK(std::filesystem::is_empty(folder.path()));
  CHECK(error({}, 0) == "");
}

TEST_CASE("[core.safetensors.hostile] S1, S2: lengths of the header") {
  CHECK(contains(refusal(""), "x.safetensors: found 0 bytes, expected a safetensors file"));
  CHECK(contains(refusal("1234567"), "found 7 bytes"));
  for (const uint64_t length : {~uint64_t{0}, uint64_t{100'000'001}, uint64_t{3}, uint64_t{0}}) {
    std::string bytes(8, '\0');
    std::memcpy(bytes.data(), &length, 8);
    CHECK(refusal(bytes + "{}") ==
          fmt::format("x.safetensors: at byte 0: header length: found {}, expected 2 to 2; is this "
                      "a complete safetensors file?",
                      length));
  }
  CHECK(parse(file_of("{}")).tensors().empty());
  CHECK(parse(file_of("{}      ")).tensors().empty());
}

TEST_CASE("[core.safetensors.hostile] S3, S4, S5: headers that are not JSON objects") {
  CHECK(contains(refusal(file_of("[]")), "at byte 8: found \"[\", expected the header's \"{\""));
  CHECK(contains(refusal(file_of("\xef\xbb\xbf{}")), "expected the header's \"{\""));
  CHECK(contains(refusal(file_of("{}\n ")),
                 "at byte 10: found \"\\x0a\", expected the header's \"}\" and spaces"));
  CHECK(contains(refusal(file_of("{}{}")), "at byte 2: found \"{\""));
  CHECK(contains(refusal(file_of(std::string_view("{\0}", 3))), "NUL"));
  CHECK(contains(refusal(file_of("{\"\xff\":1}")), "UTF-8"));
  CHECK(contains(refusal(file_of("{\"\\ud800\":1}")), "surrogate"));
  CHECK(contains(
      refusal(file_of("{\"a\":" + std::string(100'000, '[') + std::string(100'000, ']') + "}")),
      "nesting deeper than 3"));
}

TEST_CASE("[core.safetensors.hostile] S6, S7, S8: fields") {
  CHECK(contains(refusal(file_of(R"({"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                                 R"("w":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
                                 2)),
                 "key \"w\" again"));
  CHECK(contains(refusal(one(R"({"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]})", 1)),
                 "key \"dtype\" again"));
  CHECK(contains(refusal(one(R"({"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":1})", 1)),
                 "found the key \"x\""));
  CHECK(contains(refusal(one(R"({"shape":[1],"data_offsets":[0,1]})", 1)),
                 "tensor \"w\" dtype: found nothing"));
  CHECK(contains(refusal(one("3", 0)), "tensor \"w\": found 3, expected an object"));
  for (const char* type : {"\"Q8\"", "\"f32\"", "4", "null"})
    CHECK(contains(
        refusal(one(fmt::format(R"({{"dtype":{},"shape":[1],"data_offsets":[0,1]}})", type), 1)),
        fmt::format("dtype: found {}, expected a type of safetensors", type)));
  CHECK(contains(refusal(one(R"({"dtype":"F4","shape":[3],"data_offsets":[0,2]})", 2)),
                 "[3] of F4, expected whole bytes"));
  for (const char* size : {"-1", "1.0", "\"3\"", "null", "9223372036854775808"})
    CHECK(contains(
        refusal(one(fmt::format(R"({{"dtype":"U8","shape":[{}],"data_offsets":[0,1]}})", size), 1)),
        "shape: found"));
  CHECK(contains(
      refusal(one(R"({"dtype":"U8","shape":[18446744073709551616],"data_offsets":[0,1]})", 1)),
      "an integer that fits 64 bits"));
}

TEST_CASE(
    "[core.safetensors.hostile] S9, S10, S14: sizes that wrap, and offsets that do not fit them") {
  CHECK(contains(
      refusal(one(R"({"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]})", 0)),
      "fewer than 2^61"));
  CHECK(contains(
      refusal(one(R"({"dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,0]})", 0)),
      "fewer than 2^61"));
  CHECK(contains(
      refusal(one(R"({"dtype":"U8","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,1]})", 1)),
      "found 9 dimensions, expected at most 8"));
  CHECK(contains(refusal(one(R"({"dtype":"U8","shape":[1],"data_offsets":[1,0]})", 1)),
                 "found 1 to 0, expected a begin that is not after the end"));
  CHECK(contains(refusal(one(R"({"dtype":"U8","shape":[1],"data_offsets":[0]})", 1)),
                 "found 1 numbers"));
  CHECK(contains(refusal(one(R"({"dtype":"U8","shape":[1],"data_offsets":[0,1,2]})", 1)),
                 "found 3 numbers"));
  CHECK(contains(refusal(one(R"({"dtype":"U8","shape":[9],"data_offsets":[0,9]})", 8)),
                 "found 8 bytes of data, expected 9"));
  CHECK(contains(refusal(one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,4]})", 4)),
                 "data_offsets: found 4 bytes, from 0 to 4, expected the 8 that [2] of F32 takes"));
  CHECK(contains(refusal(one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,12]})", 12)),
                 "found 12 bytes, from 0 to 12, expected the 8"));
}

TEST_CASE("[core.safetensors.hostile] S11, S12, S13: every byte belongs to exactly one tensor") {
  const auto two = [](int a, int b, int c, int d, size_t data) {
    return file_of(fmt::format(R"({{"a":{{"dtype":"U8","shape":[{}],"data_offsets":[{},{}]}},)"
                               R"("b":{{"dtype":"U8","shape":[{}],"data_offsets":[{},{}]}}}})",
                               b - a, a, b, d - c, c, d),
                   data);
  };
  CHECK(parse(two(0, 2, 2, 4, 4)).tensors().size() == 2);
  CHECK(parse(two(2, 4, 0, 2, 4)).tensors()[0].name == "b");
  CHECK(contains(refusal(two(0, 2, 3, 4, 4)),
                 "tensor \"b\" data_offsets: found 3 as the begin, expected 2"));
  CHECK(contains(refusal(two(0, 2, 1, 3, 4)), "found 1 as the begin, expected 2"));
  CHECK(contains(refusal(two(0, 2, 0, 2, 2)), "found 0 as the begin, expected 2"));
  CHECK(contains(refusal(two(1, 2, 2, 4, 4)), "found 1 as the begin, expected 0"));
  CHECK(contains(refusal(two(0, 2, 2, 4, 5)), "found 5 bytes of data, expected 4"));
  CHECK(parse(two(0, 0, 0, 4, 4)).tensor("a").data.empty());  // S15: no bytes are legal
}

TEST_CASE("[core.safetensors.hostile] S16: metadata are texts") {
  CHECK(contains(refusal(file_of(R"({"__metadata__":{"a":1}})")),
                 "__metadata__ \"a\": found 1, expected a string"));
  CHECK(contains(refusal(file_of(R"({"__metadata__":[]})")),
                 "__metadata__: found an array of 0, expected an object of strings"));
}

TEST_CASE(
    "[core.safetensors.hostile] S17: a hundred thousand tensors take linear time; more than the "
    "limit are refused") {
  const auto many = [](size_t count) {
    std::string header = "{";
    for (size_t i = 0; i < count; ++i)
      header += fmt::format(R"("{}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}},)", i);
    header.back() = '}';
    return file_of(header);
  };
  CHECK(parse(many(100'000)).tensors().size() == 100'000);
  CHECK(contains(refusal(many((1u << 18) + 1)), "expected at most"));
}

TEST_CASE(
    "[core.safetensors.hostile] a file cut at any byte, or with any byte changed, is refused or "
    "read within its bounds") {
  const std::string good = file_of(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                                   R"("b":{"dtype":"BF16","shape":[1,1],"data_offsets":[8,10]}})",
                                   10);
  for (size_t size = 0; size < good.size(); ++size)
    CHECK_FALSE(refusal(good.substr(0, size)).empty());
  for (size_t at = 0; at < good.size(); ++at)
    for (const int flip : {1, 2, 16, 128}) {
      std::string bytes = good;
      bytes[at] = static_cast<char>(bytes[at] ^ flip);
      const std::span<const std::byte> all = std::as_bytes(std::span(bytes));
      try {
        const Safetensors file = parse(bytes);
        for (const auto& tensor : file.tensors()) {
          CHECK(tensor.data.data() >= all.data());
          CHECK(tensor.data.data() + tensor.data.size() <= all.data() + all.size());
        }
      } catch (const vyx::Error&) {
      }
    }
}
