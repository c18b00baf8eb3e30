#include "core/formats/npy.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>
#include <optional>
#include <utility>

#include "core/base/error.h"
#include "core/base/text.h"

namespace vyx {
namespace {

static_assert(std::endian::native == std::endian::little,
              "only little-endian arrays are read, in place");

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr uint64_t kMaxHeaderBytes = 10'000;  // as numpy.load has it
constexpr size_t kMaxDimensions = 8;

constexpr std::pair<std::string_view, ElementType> kTypes[] = {
    {"<f4", ElementType::f32}, {"<f2", ElementType::f16}, {"<f8", ElementType::f64},
    {"<i8", ElementType::i64}, {"<i4", ElementType::i32}, {"<i2", ElementType::i16},
    {"|i1", ElementType::i8},  {"<u8", ElementType::u64}, {"<u4", ElementType::u32},
    {"<u2", ElementType::u16}, {"|u1", ElementType::u8},  {"|b1", ElementType::boolean}};

// The header is a Python dictionary, {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }:
// just that is read, in any order.
class HeaderReader {
 public:
  HeaderReader(std::string_view text, std::string_view source) : rest_(text), source_(source) {}

  NpyArray read() {
    NpyArray array;
    std::string keys;  // the first letters of those that were read
    expect("{");
    while (!accept("}")) {
      const std::string_view key = quoted();
      expect(":");
      if (key == "descr") {
        array.type = type(quoted());
      } else if (key == "fortran_order") {
        array.fortran_order = accept("True");
        if (!array.fortran_order) expect("False");
      } else if (key == "shape") {
        array.shape = shape();
      } else {
        refuse("the keys descr, fortran_order and shape");
      }
      if (keys.find(key.front()) != std::string::npos) refuse("each key once");
      keys += key.front();
      if (!accept(",")) {
        expect("}");
        break;
      }
    }
    skip_spaces();
    if (!rest_.empty()) refuse("the end of the header");
    if (keys.size() != 3) refuse("the keys descr, fortran_order and shape");
    return array;
  }

 private:
  [[noreturn]] void refuse(std::string_view expected) const {
    fail("{}: found {} in the header, expected {}", source_,
         rest_.empty() ? "its end" : quote(rest_.substr(0, 20)), expected);
  }

  void skip_spaces() {
    rest_.remove_prefix(std::min(rest_.find_first_not_of(" \n"), rest_.size()));
  }

  bool accept(std::string_view token) {
    skip_spaces();
    if (!rest_.starts_with(token)) return false;
    rest_.remove_prefix(token.size());
    return true;
  }
  void expect(std::string_view token) {
    if (!accept(token)) refuse(quote(token));
  }

  std::string_view quoted() {
    expect("'");
    const size_t end = rest_.find('\'');
    if (end == std::string_view::npos || end == 0) refuse("a quoted word");
    const std::string_view word = rest_.substr(0, end);
    rest_.remove_prefix(end + 1);
    return word;
  }

  ElementType type(std::string_view name) const {
    const auto* found = std::find_if(std::begin(kTypes), std::end(kTypes),
                                     [&](const auto& each) { return each.first == name; });
    if (found == std::end(kTypes))
      fail(
          "{}: found elements of type {}, expected little-endian floats, integers or booleans, "
          "such as \"<f4\"",
          source_, quote(name));
    return found->second;
  }

  std::vector<int64_t> shape() {
    std::vector<int64_t> sizes;
    expect("(");
    while (!accept(")")) {
      skip_spaces();
      int64_t size = 0;
      const auto [end, error] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), size);
      if (error != std::errc() || size < 0 || sizes.size() == kMaxDimensions)
        refuse(fmt::format("up to {} sizes from 0 to 2^63 - 1", kMaxDimensions));
      rest_.remove_prefix(static_cast<size_t>(end - rest_.data()));
      sizes.push_back(size);
      if (!accept(",")) {
        expect(")");
        break;
      }
    }
    return sizes;
  }

  std::string_view rest_, source_;
};

}  // namespace

NpyArray parse_npy(std::span<const std::byte> bytes, std::string_view source) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (!text.starts_with(kMagic) || text.size() < 12)
    fail("{}: found no \"\\x93NUMPY\", expected an .npy array", source);
  const int version = std::to_integer<int>(bytes[6]);
  if (version < 1 || version > 3)
    fail("{}: found version {} of .npy, expected 1 to 3", source, version);
  uint64_t length = 0;
  const uint64_t length_bytes = version == 1 ? 2 : 4, start = kMagic.size() + 2 + length_bytes;
  std::memcpy(&length, bytes.data() + kMagic.size() + 2, length_bytes);
  if (length > std::min<uint64_t>(kMaxHeaderBytes, text.size() - start))
    fail("{}: found a header of {} bytes, expected at most {}", source, length,
         std::min<uint64_t>(kMaxHeaderBytes, text.size() - start));
  NpyArray array = HeaderReader(text.substr(start, length), source).read();
  array.data = bytes.subspan(start + length);
  if (byte_count(array.type, array.shape) != array.data.size())
    fail("{}: found {} bytes of data, expected what [{}] of {} takes", source, array.data.size(),
         fmt::join(array.shape, ", "), name_of(array.type));
  return array;
}

std::string npy_header(ElementType type, std::span<const int64_t> shape) {
  const auto* found = std::find_if(std::begin(kTypes), std::end(kTypes),
                                   [&](const auto& each) { return each.second == type; });
  if (found == std::end(kTypes))
    fail("npy: found {}, expected a type that NumPy has", name_of(type));
  std::string header =
      fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}{}), }}", found->first,
                  fmt::join(shape, ", "), shape.size() == 1 ? "," : "");
  constexpr size_t kPrefix = 10,
                   kAlignment = 64;  // magic, version and length; the data begin at a multiple
  header.append(kAlignment - 1 - (kPrefix + header.size()) % kAlignment, ' ');
  header += '\n';
  const auto length = static_cast<uint16_t>(header.size());
  std::string out(kMagic);
  out += '\1';
  out += '\0';
  out.append(reinterpret_cast<const char*>(&length), sizeof(length));
  return out + header;
}

}  // namespace vyx
