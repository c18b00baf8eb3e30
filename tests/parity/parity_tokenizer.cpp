// The C++ side of test_tokenizer.py: parity-tokenizer TOKENIZER.json [--plain] reads strings from
// stdin (u32 length, bytes) and writes for each its ids (u32 count, i64 each), the bytes that they
// decode to (u32 length, bytes), and the nanoseconds of encode() (u64). All little-endian. --plain
// encodes special tokens as the text they are.
#include <bit>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <iostream>
#include <string>
#include <string_view>

#include "core/io/files.h"
#include "models/tokenizer/tokenizer.h"

namespace {

static_assert(std::endian::native == std::endian::little);

template <class T>
void put(const T& value) {
  std::cout.write(reinterpret_cast<const char*>(&value), sizeof(T));
}

void answer(const vyx::models::Tokenizer& tokenizer, const std::string& text, bool special_tokens) {
  const auto begin = std::chrono::steady_clock::now();
  const auto tokens = tokenizer.encode(text, {.special_tokens = special_tokens});
  const std::chrono::nanoseconds time = std::chrono::steady_clock::now() - begin;
  put(static_cast<uint32_t>(tokens.size()));
  for (const int64_t token : tokens) put(token);
  const std::string decoded = tokenizer.decode(tokens);
  put(static_cast<uint32_t>(decoded.size()));
  std::cout << decoded;
  put(static_cast<uint64_t>(time.count()));
}

}  // namespace

int main(int argc, char** argv) {
  const bool plain = argc == 3 && std::string_view(argv[2]) == "--plain";
  if (argc != 2 && !plain) {
    std::cerr << "usage: parity-tokenizer TOKENIZER.json [--plain]\n";
    return 2;
  }
  try {
    const auto tokenizer = vyx::models::Tokenizer::from_json(vyx::read_text_file(argv[1]), argv[1]);
    uint32_t length = 0;
    while (std::cin.read(reinterpret_cast<char*>(&length), sizeof length)) {
      std::string text(length, '\0');
      std::cin.read(text.data(), length);
      answer(tokenizer, text, !plain);
    }
  } catch (const std::exception& error) {
    std::cerr << "parity-tokenizer: " << error.what() << "\n";
    return 1;
  }
  return 0;
}
