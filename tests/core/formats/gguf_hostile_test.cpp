// GGUF files that lie: each is refused with one line that names the byte, the field, what was found
// and what was expected.
#include "tests/test_support.h"

#include <chrono>

#include "tests/core/formats/gguf_builder.h"

using vyx::test::contains;
using vyx::test::error_of;
using vyx::test::GgufBuilder;
using vyx::test::parse;

namespace {

constexpr uint32_t kU8 = 0, kU16 = 2, kU32 = 4, kF32 = 6, kBool = 7, kString = 8, kArray = 9,
                   kU64 = 10;
constexpr uint32_t kTypeF32 = 0, kTypeQ4_1 = 3;

std::string refusal(const GgufBuilder& file) {
  const std::string message = error_of([&] { parse(file); });
  CHECK_FALSE(contains(message, "\n"));
  return message;
}

GgufBuilder one_key() {
  return GgufBuilder::header(0, 1);
}
GgufBuilder one_tensor() {
  return GgufBuilder::header(1, 0);
}

// A file of every kind of part.
std::string small_file() {
  return GgufBuilder::header(2, 4)
      .key("name", kString)
      .text("x")
      .key("words", kArray)
      .u32(kString)
      .u64(2)
      .text("one")
      .text("two")
      .key("scores", kArray)
      .u32(kF32)
      .u64(3)
      .raw(std::string(12, '\1'))
      .key("flag", kBool)
      .u8(1)
      .tensor("a", {32, 2}, kTypeQ4_1, 0)
      .tensor("b", {3}, kTypeF32, 64)
      .data(64 + 12)
      .bytes();
}

double seconds_of(auto&& call) {
  const auto start = std::chrono::steady_clock::now();
  call();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

TEST_CASE("[core.gguf.hostile] G1: what is no GGUF file") {
  CHECK(refusal({}) ==
        "x.gguf: at byte 0: magic: found the end of the file after 0 bytes, expected \"GGUF\"");
  CHECK(refusal(GgufBuilder().raw("GGU")) ==
        "x.gguf: at byte 0: magic: found the end of the file after 3 bytes, expected \"GGUF\"");
  CHECK(
      refusal(GgufBuilder().raw("PK\3\4....")) ==
      "x.gguf: at byte 0: magic: found \"PK\\x03\\x04\", expected \"GGUF\"; is this a GGUF file?");
}

TEST_CASE("[core.gguf.hostile] G2: versions") {
  for (const uint32_t version : {0u, 1u, 4u, 0x7FFFFFFFu})
    CHECK(refusal(GgufBuilder::header(0, 0, version)) ==
          fmt::format("x.gguf: at byte 4: version: found {}, expected 2 or 3; convert the model "
                      "again with a current llama.cpp",
                      version));
  CHECK(contains(refusal(GgufBuilder::header(0, 0, 0x03000000)),
                 "at byte 4: version: found a big-endian file"));
  CHECK(parse(GgufBuilder::header(0, 0, 2)).version() == 2);
}

TEST_CASE("[core.gguf.hostile] G3: counts of keys that the file cannot hold") {
  for (const uint64_t count : {uint64_t{1} << 63, uint64_t{1} << 61, uint64_t{65537}})
    CHECK(
        refusal(GgufBuilder::header(0, count)) ==
        fmt::format("x.gguf: at byte 16: metadata count: found {}, expected at most 65536", count));
  CHECK(refusal(GgufBuilder::header(0, 3).raw(std::string(41, 'x'))) ==
        "x.gguf: at byte 16: metadata count: found 3, expected at most 2 in the 41 bytes left");
}

TEST_CASE("[core.gguf.hostile] G4: counts of tensors that the file cannot hold") {
  for (const uint64_t count : {uint64_t{1} << 63, uint64_t{1} << 61, (uint64_t{1} << 20) + 1})
    CHECK(
        refusal(GgufBuilder::header(count, 0)) ==
        fmt::format("x.gguf: at byte 8: tensor count: found {}, expected at most 1048576", count));
  CHECK(refusal(GgufBuilder::header(9, 0)) ==
        "x.gguf: at byte 8: tensor count: found 9, expected at most 0 in the 8 bytes left");
  // The tensors' minimum is counted without the keys' bytes; what is missing then is found when it
  // is read.
  CHECK(contains(refusal(GgufBuilder::header(1, 0).raw(std::string(30, '\0'))),
                 "tensor 0 name: found length 0"));
}

TEST_CASE("[core.gguf.hostile] G5: keys") {
  const std::string rest(32, '\0');
  CHECK(refusal(one_key().u64(~uint64_t{0}).raw(rest)) ==
        "x.gguf: at byte 24: metadata 0 key: found length 18446744073709551615, expected 1 to "
        "65536 bytes");
  CHECK(contains(refusal(one_key().u64(0).raw(rest)),
                 "metadata 0 key: found length 0, expected 1 to 65536 bytes"));
  CHECK(contains(refusal(one_key().u64(65537).raw(rest)), "metadata 0 key: found length 65537"));
  CHECK(contains(refusal(one_key().u64(60000).raw(rest)),
                 "at byte 32: metadata 0 key: found the end of the file after 32 bytes, expected "
                 "60000 bytes"));
  CHECK(refusal(one_key().key("a\xff", kU8).u8(1)) ==
        "x.gguf: at byte 24: metadata 0 key: found \"a\\xff\", expected UTF-8");
  CHECK(refusal(one_key().key(std::string_view("a\0b", 3), kU8).u8(1)) ==
        "x.gguf: at byte 24: metadata 0 key: found \"a\\x00b\", expected no NUL byte");
}

TEST_CASE("[core.gguf.hostile] G6: the same key twice") {
  const GgufBuilder file = GgufBuilder::header(0, 2).key("a", kU8).u8(1).key("a", kU8).u8(2);
  CHECK(refusal(file) ==
        "x.gguf: at byte 38: metadata 1 key: found \"a\" again, expected each key once");
}

TEST_CASE("[core.gguf.hostile] G7: value types") {
  for (const uint32_t type : {13u, 255u, ~0u})
    CHECK(refusal(one_key().key("k", type).u64(0)) ==
          fmt::format("x.gguf: at byte 33: metadata 0 \"k\" value type: found {}, expected 0 to 12",
                      type));
}

TEST_CASE("[core.gguf.hostile] G8: arrays") {
  const auto array = [](uint32_t element, uint64_t count) {
    return one_key().key("k", kArray).u32(element).u64(count);
  };
  CHECK(refusal(array(kU64, (uint64_t{1} << 61) + 1).u64(0)) ==
        "x.gguf: at byte 41: metadata 0 \"k\" array length: found 2305843009213693953, expected at "
        "most 1 in the 8 bytes left");
  CHECK(contains(refusal(array(kF32, 3).u64(0)),
                 "array length: found 3, expected at most 2 in the 8 bytes left"));
  CHECK(refusal(array(kArray, 1).u64(0)) ==
        "x.gguf: at byte 37: metadata 0 \"k\" element type: found an array of arrays, expected an "
        "array of plain values");
  CHECK(contains(refusal(array(13, 1).u64(0)),
                 "at byte 37: metadata 0 \"k\" element type: found 13, expected 0 to 12"));
  CHECK(refusal(array(kBool, 3).u8(0).u8(1).u8(2)) ==
        "x.gguf: at byte 51: metadata 0 \"k\" value: found the byte 2, expected 0 or 1 for a bool");
  CHECK(contains(refusal(one_key().key("k", kBool).u8(7)), "value: found the byte 7"));
}

TEST_CASE("[core.gguf.hostile] G9: 2^40 strings of no bytes") {
  const GgufBuilder file =
      one_key().key("k", kArray).u32(kString).u64(uint64_t{1} << 40).u64(0).u64(0);
  CHECK(contains(refusal(file),
                 "array length: found 1099511627776, expected at most 2 in the 16 bytes left"));
}

TEST_CASE("[core.gguf.hostile] G10: alignment") {
  const auto alignment = [](uint32_t value) {
    return one_key().key("general.alignment", kU32).u32(value);
  };
  for (const uint32_t value : {0u, 3u, 4u, 48u, 1u << 31, 1u << 17})
    CHECK(refusal(alignment(value)) ==
          fmt::format("x.gguf: at byte 49: metadata 0 \"general.alignment\" value: found {}, "
                      "expected a power of two from 8 to 65536",
                      value));
  CHECK(contains(refusal(one_key().key("general.alignment", kU64).u64(32)),
                 "value: found the type u64, expected u32"));

  GgufBuilder wide = GgufBuilder::header(1, 1).key("general.alignment", kU32).u32(4096);
  wide.tensor("t", {2}, kTypeF32, 0).data(8, 4096);
  CHECK(parse(wide).tensor("t").offset == 4096);
}

TEST_CASE("[core.gguf.hostile] G11: numbers of dimensions") {
  for (const uint32_t rank : {0u, 5u, ~0u})
    CHECK(refusal(one_tensor().text("t").u32(rank).raw(std::string(64, '\1'))) ==
          fmt::format(
              "x.gguf: at byte 33: tensor 0 \"t\" number of dimensions: found {}, expected 1 to 4",
              rank));
}

TEST_CASE("[core.gguf.hostile] G12: dimensions") {
  CHECK(refusal(one_tensor().tensor("t", {0}, kTypeF32, 0)) ==
        "x.gguf: at byte 37: tensor 0 \"t\" dimension: found 0, expected at least 1");
  const uint64_t big = uint64_t{1} << 42;
  const auto overflow = [](std::initializer_list<uint64_t> shape) {
    return contains(refusal(one_tensor().tensor("t", shape, kTypeF32, 0)),
                    "expected fewer than 2^63 elements in a tensor");
  };
  CHECK(overflow({~uint64_t{0}}));  // -1
  CHECK(overflow({uint64_t{1} << 63}));
  CHECK(overflow({(uint64_t{1} << 63) - 1, 2, 1, 1}));
  CHECK(overflow({big + 1, big + 1}));
  CHECK(overflow({uint64_t{1} << 32, uint64_t{1} << 32}));  // the product wraps to 0
  CHECK(contains(refusal(one_tensor().tensor("t", {big + 1}, kTypeF32, 0).data(4096)),
                 "tensor 0 \"t\" data: found the end of the file, expected 17592186044420 bytes "
                 "from byte 64"));
  CHECK(contains(refusal(one_tensor().tensor("t", {uint64_t{1} << 62}, kTypeF32, 0)),
                 "expected fewer than 2^63 bytes"));
}

TEST_CASE("[core.gguf.hostile] G13: tensor types") {
  for (const uint32_t type : {42u, 255u, ~0u})
    CHECK(refusal(one_tensor().tensor("t", {32}, type, 0).data(128)) ==
          fmt::format("x.gguf: at byte 45: tensor 0 \"t\" type: found {}, expected a type that "
                      "ggml has; convert the model again with a current llama.cpp",
                      type));
  for (const uint32_t type : {4u, 5u, 31u, 33u, 36u, 38u})
    CHECK(contains(refusal(one_tensor().tensor("t", {32}, type, 0).data(128)),
                   fmt::format("type: found {}, a type that ggml has removed, expected", type)));
  CHECK(refusal(one_tensor().tensor("t", {48, 2}, kTypeQ4_1, 0).data(128)) ==
        "x.gguf: at byte 53: tensor 0 \"t\" type: found Q4_1 for rows of 48, expected rows of a "
        "multiple of 32");
}

TEST_CASE("[core.gguf.hostile] G14: data offsets") {
  const auto second_at = [](uint64_t offset) {
    return GgufBuilder::header(2, 0)
        .tensor("a", {9}, kTypeF32, 0)
        .tensor("b", {8}, kTypeF32, offset)
        .data(96);
  };
  CHECK(parse(second_at(64)).tensor("b").bytes() == 32);
  // unaligned, overlapping, with a hole, past the end, and such that offset + size wraps
  for (const uint64_t offset : {uint64_t{63}, uint64_t{32}, uint64_t{0}, uint64_t{96},
                                uint64_t{1} << 40, ~uint64_t{0} - 15})
    CHECK(contains(
        refusal(second_at(offset)),
        fmt::format(
            "tensor 1 \"b\" data offset: found {}, expected 64, where the tensors before it end",
            offset)));
  CHECK(refusal(one_tensor().tensor("t", {9}, kTypeF32, 0).data(35)) ==
        "x.gguf: at byte 99: tensor 0 \"t\" data: found the end of the file, expected 36 bytes "
        "from byte 64; is the file complete?");
  // The last tensor needs no padding, and what follows it is nobody's business.
  CHECK_NOTHROW(parse(one_tensor().tensor("t", {9}, kTypeF32, 0).data(36)));
  CHECK_NOTHROW(parse(one_tensor().tensor("t", {9}, kTypeF32, 0).data(36).raw("trailing")));

  GgufBuilder huge = GgufBuilder::header(3, 0);
  const uint64_t half = uint64_t{1} << 62;
  huge.tensor("a", {half / 4}, kTypeF32, 0)
      .tensor("b", {half / 4}, kTypeF32, half)
      .tensor("c", {half / 4}, kTypeF32, 2 * half);
  CHECK(contains(refusal(huge), "found 2^63 bytes or more so far"));
}

TEST_CASE("[core.gguf.hostile] G15: tensor names") {
  const auto named = [](std::string_view name) {
    return one_tensor().tensor(name, {1}, kTypeF32, 0).data(4);
  };
  CHECK_NOTHROW(parse(named(std::string(63, 'n'))));
  CHECK(contains(refusal(named(std::string(64, 'n'))),
                 "at byte 24: tensor 0 name: found length 64, expected 1 to 63 bytes"));
  CHECK(contains(refusal(named("../../etc/passwd")),
                 "name: found \"../\", expected a name, not a path"));
  CHECK(contains(refusal(named("\xc3\x28")), "name: found \"\\xc3(\", expected UTF-8"));
  const GgufBuilder twice = GgufBuilder::header(2, 0)
                                .tensor("t", {8}, kTypeF32, 0)
                                .tensor("t", {8}, kTypeF32, 32)
                                .data(64);
  CHECK(refusal(twice) ==
        "x.gguf: at byte 57: tensor 1 \"t\" name: found \"t\" again, expected each name once");
}

TEST_CASE("[core.gguf.hostile] G16: a file that ends at any byte of its header or data") {
  const std::string whole = small_file();
  CHECK_NOTHROW(parse(whole));
  for (size_t size = 0; size < whole.size(); ++size) {
    // An exact copy on the heap, so that a sanitizer sees a read past its end.
    const std::vector<char> cut(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(size));
    CAPTURE(size);
    const std::string message = error_of([&] { parse(std::string_view(cut.data(), cut.size())); });
    CHECK(contains(message, "x.gguf: at byte "));
    CHECK((contains(message, "end of the file") || contains(message, "bytes left")));
  }
}

TEST_CASE("[core.gguf.hostile] a file with any byte changed is refused or read within its bounds") {
  const std::string good = small_file();
  size_t refused = 0;
  for (size_t at = 0; at < good.size(); ++at)
    for (const int flip : {1, 2, 16, 128}) {
      // An exact copy on the heap, so that a sanitizer sees a read past its end.
      std::vector<char> bytes(good.begin(), good.end());
      bytes[at] = static_cast<char>(bytes[at] ^ flip);
      CAPTURE(at);
      try {
        const auto file = parse(std::string_view(bytes.data(), bytes.size()));
        for (const vyx::GgufTensor& tensor : file.tensors()) {
          const auto* begin = reinterpret_cast<const char*>(tensor.data.data());
          CHECK(begin >= bytes.data());
          CHECK(begin + tensor.data.size() <= bytes.data() + bytes.size());
        }
      } catch (const vyx::Error& error) {
        ++refused;
        CHECK_FALSE(contains(error.what(), "\n"));
      }
    }
  CHECK(refused > good.size());  // of four times as many
}

TEST_CASE("[core.gguf.hostile] G19: one part of a split model") {
  for (const uint16_t count : {uint16_t{2}, uint16_t{65535}})
    CHECK(refusal(one_key().key("split.count", kU16).u16(count)) ==
          fmt::format("x.gguf: at byte 43: metadata 0 \"split.count\" value: found one of {} parts "
                      "of a split model, expected a whole model; merge the parts first with "
                      "llama-gguf-split --merge",
                      count));
  CHECK(contains(refusal(one_key().key("split.count", kString).text("2")),
                 "value: found the type str, expected u16"));
  CHECK_NOTHROW(parse(one_key().key("split.count", kU16).u16(1)));
}

TEST_CASE("[core.gguf.hostile] G20: very many keys take no time") {
  const auto with_keys = [](uint64_t count) {
    GgufBuilder file = GgufBuilder::header(0, count);
    for (uint64_t i = 0; i < count; ++i) file.key(std::to_string(i), kU8).u8(0);
    return file;
  };
  const GgufBuilder bomb = with_keys(1'000'000), many = with_keys(65536);
  CHECK(seconds_of([&] {
          CHECK(contains(refusal(bomb), "metadata count: found 1000000, expected at most 65536"));
        }) < 0.5);
  CHECK(seconds_of([&] { CHECK(parse(many).metadata().size() == 65536); }) < 0.5);
}

TEST_CASE("[core.gguf.hostile] what a file holds reaches the terminal escaped") {
  CHECK(contains(refusal(one_key().key("\x1b[2J\n\"", 13)),
                 "metadata 0 \"\\x1b[2J\\x0a\\\"\" value type: found 13"));
  const std::string message = refusal(one_key().key(std::string(60000, 'k'), 13));
  CHECK(message.size() < 250);
  CHECK(contains(message, "kkk…\""));
}
