// The C++ side of test_gguf.py: `dequantize FILE.gguf TENSOR` writes the tensor's values to stdout
// as raw float32; `write OUT.gguf` writes a file that holds a value of every type, for
// gguf.GGUFReader to read back.
#include <cstdint>
#include <exception>
#include <iostream>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/error.h"
#include "core/formats/gguf.h"

namespace {

using vyx::GgmlType;
using vyx::GgufArray;

void dequantize(const char* path, const char* name) {
  const vyx::GgufFile file(path);
  const vyx::GgufTensor& tensor = file->tensor(name);
  std::vector<float> values(tensor.elements());
  vyx::dequantize(tensor.type, tensor.data, values);
  const auto size = static_cast<std::streamsize>(values.size() * sizeof(float));
  if (!std::cout.write(reinterpret_cast<const char*>(values.data()), size).flush())
    vyx::fail("stdout: cannot write");
}

void write(const char* path) {
  const vyx::GgufMetadata metadata = {
      {"general.architecture", std::string("sample")},
      {"u8", uint8_t{255}},
      {"i8", int8_t{-128}},
      {"u16", uint16_t{65535}},
      {"i16", int16_t{-32768}},
      {"u32", uint32_t{4294967295}},
      {"i32", std::numeric_limits<int32_t>::min()},
      {"f32", 0.1f},
      {"bool", true},
      {"str", std::string("snow\xe2\x98\x83man")},
      {"u64", std::numeric_limits<uint64_t>::max()},
      {"i64", std::numeric_limits<int64_t>::min()},
      {"f64", 0.1},
      {"[u8]", GgufArray(std::vector<uint8_t>{0, 255})},
      {"[f32]", GgufArray(std::vector<float>{1.5f, -2.5f})},
      {"[bool]", GgufArray(std::vector<bool>{true, false})},
      {"[str]", GgufArray(std::vector<std::string>{"", "two", "three"})},
      {"[i64]", GgufArray(std::vector<int64_t>{-1, 1})},
  };
  const std::vector<float> matrix = {0, 1, 2, 3, 4, 5};
  const std::vector<uint16_t> halves = {0x3C00, 0xC000, 0x3800};  // 1, -2, 0.5
  const std::vector<uint8_t> quantized(2 * 34, 0x11);
  vyx::write_gguf(path, metadata,
                  {{"matrix", {3, 2}, GgmlType::f32, std::as_bytes(std::span(matrix))},
                   {"halves", {3}, GgmlType::f16, std::as_bytes(std::span(halves))},
                   {"quantized", {32, 2}, GgmlType::q8_0, std::as_bytes(std::span(quantized))}});
}

}  // namespace

int main(int argc, char** argv) try {
  const std::string_view command = argc > 1 ? argv[1] : "";
  if (command == "dequantize" && argc == 4) {
    dequantize(argv[2], argv[3]);
  } else if (command == "write" && argc == 3) {
    write(argv[2]);
  } else {
    std::cerr << "usage: parity-gguf dequantize FILE.gguf TENSOR | parity-gguf write OUT.gguf\n";
    return 2;
  }
  return 0;
} catch (const std::exception& error) {
  std::cerr << "parity-gguf: " << error.what() << "\n";
  return 1;
}
