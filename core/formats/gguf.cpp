#include "core/formats/gguf.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include "core/base/error.h"
#include "core/base/text.h"
#include "core/base/utf8.h"

namespace vyx {
namespace {

static_assert(std::endian::native == std::endian::little,
              "GGUF files are little-endian and are read in place");

constexpr uint64_t kMaxKeys = 1u << 16;  // a model has some forty
constexpr uint64_t kMaxTensors = 1u << 20;
constexpr uint64_t kMaxKeyLength = 1u << 16;
constexpr uint64_t kMaxNameLength = 63;  // ggml's field has 64 bytes with its NUL
constexpr uint64_t kMaxDimensions = 4;
constexpr uint64_t kMaxAlignment = 1u << 16;
// Of data: a sum of two such numbers does not wrap.
constexpr uint64_t kMaxBytes = (uint64_t{1} << 63) - 1 - kMaxAlignment;
constexpr uint64_t kMinKeyBytes = 8 + 1 + 4 + 1;  // length, key, type, value
// Length, name, rank, dimension, type, offset.
constexpr uint64_t kMinTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;

constexpr uint32_t kStringType = 8;
constexpr uint32_t kArrayType = 9;
constexpr const char* kElementNames[] = {"u8",  "i8",   "u16", "i16", "u32", "i32",
                                         "f32", "bool", "str", "u64", "i64", "f64"};

// What is being read, for errors: `metadata 3 "llama.block_count" value`.
struct Subject {
  const char* kind = "";  // "metadata" or "tensor"; empty for the header
  uint64_t index = 0;
  std::string_view name;
};

class Reader {
 public:
  Reader(std::span<const std::byte> bytes, std::string_view source)
      : bytes_(bytes), source_(source) {}

  Subject subject;

  uint64_t position() const { return at_; }
  uint64_t remaining() const { return bytes_.size() - at_; }

  template <class Found, class Expected>
  [[noreturn]] void refuse(uint64_t at, std::string_view field, const Found& found,
                           const Expected& expected) const {
    std::string where;
    if (*subject.kind != '\0') where = fmt::format("{} {} ", subject.kind, subject.index);
    if (!subject.name.empty()) where += quote(subject.name) + ' ';
    fail("{}: at byte {}: {}{}: found {}, expected {}", source_, at, where, field, found, expected);
  }

  template <class T>
  T read(std::string_view field) {
    T value;
    std::memcpy(&value, take(sizeof(T), field).data(), sizeof(T));
    return value;
  }

  /// A length and that many bytes.
  std::string_view text(std::string_view field, uint64_t min = 0,
                        uint64_t max = std::numeric_limits<uint64_t>::max()) {
    const uint64_t start = at_;
    const auto length = read<uint64_t>(field);
    if (length < min || length > max)
      refuse(start, field, fmt::format("length {}", length),
             fmt::format("{} to {} bytes", min, max));
    const auto data = take(length, field);
    return {reinterpret_cast<const char*>(data.data()), data.size()};
  }

  /// A name that others will look up and print.
  std::string_view identifier(std::string_view field, uint64_t max_length) {
    const uint64_t start = at_;
    const std::string_view name = text(field, 1, max_length);
    if (!is_utf8(name)) refuse(start, field, quote(name), "UTF-8");
    if (name.find('\0') != std::string_view::npos) refuse(start, field, quote(name), "no NUL byte");
    return name;
  }

  /// A number of things of at least `min_bytes` each, which the rest of the file could hold.
  uint64_t count(std::string_view field, uint64_t min_bytes, uint64_t limit) {
    const uint64_t start = at_;
    const auto value = read<uint64_t>(field);
    if (value > limit) refuse(start, field, value, fmt::format("at most {}", limit));
    if (value > remaining() / min_bytes)
      refuse(start, field, value,
             fmt::format("at most {} in the {} bytes left", remaining() / min_bytes, remaining()));
    return value;
  }

  std::span<const std::byte> take(uint64_t size, std::string_view field) {
    if (size > remaining())
      refuse(at_, field, fmt::format("the end of the file after {} bytes", remaining()),
             fmt::format("{} bytes; is the file complete?", size));
    const auto taken = bytes_.subspan(at_, size);
    at_ += size;
    return taken;
  }

 private:
  std::span<const std::byte> bytes_;
  std::string_view source_;
  uint64_t at_ = 0;
};

uint32_t read_version(Reader& reader) {
  if (reader.remaining() < 4)
    reader.refuse(0, "magic", fmt::format("the end of the file after {} bytes", reader.remaining()),
                  "\"GGUF\"");
  const auto magic = reader.take(4, "magic");
  if (std::memcmp(magic.data(), "GGUF", 4) != 0)
    reader.refuse(0, "magic", quote({reinterpret_cast<const char*>(magic.data()), 4}),
                  "\"GGUF\"; is this a GGUF file?");
  const auto version = reader.read<uint32_t>("version");
  if (version == 2 || version == 3) return version;
  if ((version & 0xFFFF) == 0 && version != 0)
    reader.refuse(4, "version", "a big-endian file",
                  "a little-endian one; convert it with gguf-py's gguf_convert_endian");
  reader.refuse(4, "version", version, "2 or 3; convert the model again with a current llama.cpp");
}

bool read_bool(Reader& reader) {
  const uint64_t start = reader.position();
  const auto byte = reader.read<uint8_t>("value");
  if (byte > 1)
    reader.refuse(start, "value", fmt::format("the byte {}", byte), "0 or 1 for a bool");
  return byte == 1;
}

// Calls `visit.operator()<T>()` with the C++ type of a scalar type's number.
template <class Visit>
auto visit_type(uint32_t type, Visit&& visit) {
  switch (type) {
    case 0:
      return visit.template operator()<uint8_t>();
    case 1:
      return visit.template operator()<int8_t>();
    case 2:
      return visit.template operator()<uint16_t>();
    case 3:
      return visit.template operator()<int16_t>();
    case 4:
      return visit.template operator()<uint32_t>();
    case 5:
      return visit.template operator()<int32_t>();
    case 6:
      return visit.template operator()<float>();
    case 7:
      return visit.template operator()<bool>();
    case kStringType:
      return visit.template operator()<std::string>();
    case 10:
      return visit.template operator()<uint64_t>();
    case 11:
      return visit.template operator()<int64_t>();
    default:
      return visit.template operator()<double>();
  }
}

constexpr bool is_scalar_type(uint32_t type) {
  return type <= 12 && type != kArrayType;
}

template <class T>
T read_scalar(Reader& reader) {
  if constexpr (std::is_same_v<T, bool>) {
    return read_bool(reader);
  } else if constexpr (std::is_same_v<T, std::string>) {
    return std::string(reader.text("value"));
  } else {
    return reader.read<T>("value");
  }
}

template <class T>
std::vector<T> read_elements(Reader& reader) {
  constexpr bool kIsString = std::is_same_v<T, std::string>;
  constexpr uint64_t kMinBytes = kIsString ? 8 : sizeof(T);  // a string has at least its length
  static_assert(sizeof(bool) == 1);
  const uint64_t count =
      reader.count("array length", kMinBytes, std::numeric_limits<uint64_t>::max());
  std::vector<T> elements;
  if constexpr (kIsString || std::is_same_v<T, bool>) {
    elements.reserve(count);
    for (uint64_t i = 0; i < count; ++i) elements.push_back(read_scalar<T>(reader));
  } else {
    elements.resize(count);
    const auto data = reader.take(count * sizeof(T), "value");
    if (count > 0) std::memcpy(elements.data(), data.data(), data.size());
  }
  return elements;
}

GgufValue read_value(Reader& reader) {
  const uint64_t start = reader.position();
  const auto type = reader.read<uint32_t>("value type");
  if (is_scalar_type(type))
    return visit_type(type, [&]<class T>() -> GgufValue { return read_scalar<T>(reader); });
  if (type != kArrayType) reader.refuse(start, "value type", type, "0 to 12");
  const auto element = reader.read<uint32_t>("element type");
  if (element == kArrayType)
    reader.refuse(start + 4, "element type", "an array of arrays", "an array of plain values");
  if (!is_scalar_type(element)) reader.refuse(start + 4, "element type", element, "0 to 12");
  return visit_type(element,
                    [&]<class T>() -> GgufValue { return GgufArray(read_elements<T>(reader)); });
}

// Metadata that says how the file itself is laid out.
uint64_t read_alignment(const Reader& reader, const GgufValue& value, uint64_t at) {
  const auto* alignment = std::get_if<uint32_t>(&value);
  if (alignment == nullptr) reader.refuse(at, "value", "the type " + type_name(value), "u32");
  if (*alignment < 8 || *alignment > kMaxAlignment || !std::has_single_bit(*alignment))
    reader.refuse(at, "value", *alignment,
                  fmt::format("a power of two from 8 to {}", kMaxAlignment));
  return *alignment;
}

void refuse_split(const Reader& reader, const GgufValue& value, uint64_t at) {
  const auto* count = std::get_if<uint16_t>(&value);
  if (count == nullptr) reader.refuse(at, "value", "the type " + type_name(value), "u16");
  if (*count > 1)
    reader.refuse(at, "value", fmt::format("one of {} parts of a split model", *count),
                  "a whole model; merge the parts first with llama-gguf-split --merge");
}

struct TensorType {
  GgmlType type;
  GgmlBlock block;
};

TensorType read_tensor_type(Reader& reader) {
  const uint64_t start = reader.position();
  const auto type = reader.read<uint32_t>("type");
  if (const auto block = block_of(type)) return {static_cast<GgmlType>(type), *block};
  // 4 and 5 were Q4_2 and Q4_3; 31 to 33 and 36 to 38 were layouts that are now made at run time.
  const bool removed =
      type == 4 || type == 5 || (type >= 31 && type <= 33) || (type >= 36 && type <= 38);
  reader.refuse(start, "type",
                fmt::format("{}{}", type, removed ? ", a type that ggml has removed" : ""),
                "a type that ggml has; convert the model again with a current llama.cpp");
}

// A tensor's entry in the directory. Its data begin at `offset`, which is where the last tensor's
// padded data ended.
GgufTensor read_tensor(Reader& reader, uint64_t expected_offset) {
  GgufTensor tensor;
  const uint64_t name_start = reader.position();
  reader.subject.name = reader.identifier("name", kMaxNameLength);
  tensor.name = reader.subject.name;
  if (tensor.name.find("../") != std::string::npos)
    reader.refuse(name_start, "name", "\"../\"", "a name, not a path");

  const uint64_t rank_start = reader.position();
  const auto rank = reader.read<uint32_t>("number of dimensions");
  if (rank < 1 || rank > kMaxDimensions)
    reader.refuse(rank_start, "number of dimensions", rank, fmt::format("1 to {}", kMaxDimensions));
  uint64_t elements = 1;
  for (uint32_t i = 0; i < rank; ++i) {
    const uint64_t start = reader.position();
    const auto size = reader.read<uint64_t>("dimension");
    if (size == 0) reader.refuse(start, "dimension", size, "at least 1");
    if (__builtin_mul_overflow(elements, size, &elements) || elements > kMaxBytes)
      reader.refuse(start, "dimension", size, "fewer than 2^63 elements in a tensor");
    tensor.shape.push_back(size);
  }

  const uint64_t type_start = reader.position();
  const auto [type, block] = read_tensor_type(reader);
  tensor.type = type;
  if (tensor.shape[0] % block.elements != 0)
    reader.refuse(type_start, "type",
                  fmt::format("{} for rows of {}", name_of(type), tensor.shape[0]),
                  fmt::format("rows of a multiple of {}", block.elements));
  uint64_t size = 0;
  if (__builtin_mul_overflow(elements / block.elements, block.bytes, &size) || size > kMaxBytes)
    reader.refuse(type_start, "type", fmt::format("{} for {} elements", name_of(type), elements),
                  "fewer than 2^63 bytes");

  const uint64_t offset_start = reader.position();
  tensor.offset = reader.read<uint64_t>("data offset");
  if (tensor.offset != expected_offset)
    reader.refuse(offset_start, "data offset", tensor.offset,
                  fmt::format("{}, where the tensors before it end", expected_offset));
  return tensor;
}

uint64_t align_up(uint64_t value, uint64_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

// Metadata of any integer type that is not negative.
std::optional<uint64_t> unsigned_of(const GgufValue& value) {
  return std::visit(
      []<class T>(const T& held) -> std::optional<uint64_t> {
        if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>)
          if (std::in_range<uint64_t>(held)) return static_cast<uint64_t>(held);
        return std::nullopt;
      },
      value);
}

std::optional<double> number_of(const GgufValue& value) {
  return std::visit(
      []<class T>(const T& held) -> std::optional<double> {
        if constexpr (std::is_arithmetic_v<T> && !std::is_same_v<T, bool>)
          return static_cast<double>(held);
        return std::nullopt;
      },
      value);
}

std::string describe(const GgufValue* value) {
  if (value == nullptr) return "nothing";
  return std::visit(
      [&]<class T>(const T& held) {
        if constexpr (std::is_same_v<T, GgufArray>) {
          return "the type " + type_name(*value);
        } else if constexpr (std::is_same_v<T, std::string>) {
          return "the string " + quote(held);
        } else {
          return fmt::format("{} ({})", held, type_name(*value));
        }
      },
      *value);
}

[[noreturn]] void refuse_metadata(std::string_view source, std::string_view key,
                                  const GgufValue* value, std::string_view expected) {
  fail("{}: metadata {}: found {}, expected {}", source, quote(key), describe(value), expected);
}

/// The elements of an array of numbers as T, whatever their width. Throws Error for one that does
/// not fit.
template <class T>
std::vector<T> elements_of(std::string_view source, std::string_view key, const GgufValue* value,
                           std::string_view expected) {
  const auto* array = value == nullptr ? nullptr : std::get_if<GgufArray>(value);
  std::vector<T> result;
  const auto convert = [&]<class Held>(const std::vector<Held>& elements) {
    constexpr bool kIsNumber = std::is_arithmetic_v<Held> && !std::is_same_v<Held, bool>;
    if constexpr (kIsNumber && (std::is_integral_v<Held> || std::is_floating_point_v<T>)) {
      for (const Held element : elements) {
        if constexpr (std::is_integral_v<T>) {
          if (!std::in_range<T>(element)) refuse_metadata(source, key, value, expected);
        }
        result.push_back(static_cast<T>(element));
      }
    } else {
      refuse_metadata(source, key, value, expected);
    }
  };
  if (array == nullptr) refuse_metadata(source, key, value, expected);
  std::visit(convert, *array);
  return result;
}

}  // namespace

std::string type_name(const GgufValue& value) {
  if (const auto* array = std::get_if<GgufArray>(&value))
    return fmt::format("[{}]", kElementNames[array->index()]);
  return kElementNames[value.index()];
}

uint64_t GgufTensor::elements() const {
  uint64_t product = 1;
  for (const uint64_t size : shape) product *= size;
  return product;
}

uint64_t GgufTensor::bytes() const {
  const GgmlBlock block = *block_of(static_cast<uint32_t>(type));
  return elements() / block.elements * block.bytes;
}

Gguf Gguf::parse(std::span<const std::byte> bytes, std::string source) {
  Gguf gguf = parse_directory(bytes, bytes.size(), std::move(source));
  for (GgufTensor& tensor : gguf.tensors_)
    tensor.data = bytes.subspan(tensor.offset, tensor.bytes());
  return gguf;
}

Gguf Gguf::parse_directory(std::span<const std::byte> bytes, uint64_t file_size,
                           std::string source) {
  Gguf gguf;
  gguf.source_ = std::move(source);
  Reader reader(bytes, gguf.source_);
  gguf.version_ = read_version(reader);
  const uint64_t tensor_count = reader.count("tensor count", kMinTensorBytes, kMaxTensors);
  const uint64_t key_count = reader.count("metadata count", kMinKeyBytes, kMaxKeys);

  uint64_t alignment = 32;
  gguf.metadata_.reserve(key_count);
  for (uint64_t i = 0; i < key_count; ++i) {
    reader.subject = {"metadata", i, {}};
    const uint64_t start = reader.position();
    const std::string_view key = reader.identifier("key", kMaxKeyLength);
    if (!gguf.key_index_.try_emplace(std::string(key), i).second)
      reader.refuse(start, "key", quote(key) + " again", "each key once");
    reader.subject.name = key;
    const uint64_t value_start = reader.position();
    const GgufValue& value = gguf.metadata_.emplace_back(key, read_value(reader)).second;
    if (key == "general.alignment") alignment = read_alignment(reader, value, value_start);
    if (key == "split.count") refuse_split(reader, value, value_start);
  }

  uint64_t data_size = 0;
  gguf.tensors_.reserve(tensor_count);
  for (uint64_t i = 0; i < tensor_count; ++i) {
    reader.subject = {"tensor", i, {}};
    const uint64_t start = reader.position();
    const GgufTensor& tensor = gguf.tensors_.emplace_back(read_tensor(reader, data_size));
    if (!gguf.tensor_index_.try_emplace(tensor.name, i).second)
      reader.refuse(start, "name", quote(tensor.name) + " again", "each name once");
    data_size += align_up(tensor.bytes(), alignment);  // two numbers below 2^63 do not wrap
    if (data_size > kMaxBytes) reader.refuse(start, "data", "2^63 bytes or more so far", "fewer");
  }

  // Offsets count from the end of the directory, which is known only now.
  const uint64_t data_start = align_up(reader.position(), alignment);
  for (uint64_t i = 0; i < tensor_count; ++i) {
    GgufTensor& tensor = gguf.tensors_[i];
    tensor.offset += data_start;
    if (tensor.offset > file_size || tensor.bytes() > file_size - tensor.offset) {
      reader.subject = {"tensor", i, tensor.name};
      reader.refuse(file_size, "data", "the end of the file",
                    fmt::format("{} bytes from byte {}; is the file complete?", tensor.bytes(),
                                tensor.offset));
    }
  }
  return gguf;
}

const GgufValue* Gguf::find(std::string_view key) const {
  const auto found = key_index_.find(key);
  return found == key_index_.end() ? nullptr : &metadata_[found->second].second;
}

const GgufTensor* Gguf::find_tensor(std::string_view name) const {
  const auto found = tensor_index_.find(name);
  return found == tensor_index_.end() ? nullptr : &tensors_[found->second];
}

const GgufTensor& Gguf::tensor(std::string_view name) const {
  const GgufTensor* tensor = find_tensor(name);
  if (tensor == nullptr)
    fail("{}: tensor {}: found nothing, expected it in the file", source_, quote(name));
  return *tensor;
}

std::string Gguf::string(std::string_view key) const {
  const GgufValue* value = find(key);
  const auto* text = value == nullptr ? nullptr : std::get_if<std::string>(value);
  if (text == nullptr) refuse_metadata(source_, key, value, "a string");
  return *text;
}

uint64_t Gguf::unsigned_integer(std::string_view key, uint64_t min, uint64_t max) const {
  const GgufValue* value = find(key);
  const std::optional<uint64_t> integer = value == nullptr ? std::nullopt : unsigned_of(*value);
  if (!integer || *integer < min || *integer > max)
    refuse_metadata(source_, key, value, fmt::format("an integer from {} to {}", min, max));
  return *integer;
}

double Gguf::number(std::string_view key) const {
  const GgufValue* value = find(key);
  const std::optional<double> number = value == nullptr ? std::nullopt : number_of(*value);
  if (!number || !std::isfinite(*number)) refuse_metadata(source_, key, value, "a finite number");
  return *number;
}

std::vector<int64_t> Gguf::integers(std::string_view key) const {
  return elements_of<int64_t>(source_, key, find(key), "an array of integers");
}

std::vector<double> Gguf::numbers(std::string_view key) const {
  return elements_of<double>(source_, key, find(key), "an array of numbers");
}

template <class T>
const std::vector<T>& Gguf::array(std::string_view key) const {
  const GgufValue* value = find(key);
  const auto* array = value == nullptr ? nullptr : std::get_if<GgufArray>(value);
  const auto* elements = array == nullptr ? nullptr : std::get_if<std::vector<T>>(array);
  if (elements == nullptr)
    refuse_metadata(source_, key, value, "an array " + type_name(GgufArray(std::vector<T>())));
  return *elements;
}

template const std::vector<uint8_t>& Gguf::array(std::string_view) const;
template const std::vector<int8_t>& Gguf::array(std::string_view) const;
template const std::vector<uint16_t>& Gguf::array(std::string_view) const;
template const std::vector<int16_t>& Gguf::array(std::string_view) const;
template const std::vector<uint32_t>& Gguf::array(std::string_view) const;
template const std::vector<int32_t>& Gguf::array(std::string_view) const;
template const std::vector<float>& Gguf::array(std::string_view) const;
template const std::vector<bool>& Gguf::array(std::string_view) const;
template const std::vector<std::string>& Gguf::array(std::string_view) const;
template const std::vector<uint64_t>& Gguf::array(std::string_view) const;
template const std::vector<int64_t>& Gguf::array(std::string_view) const;
template const std::vector<double>& Gguf::array(std::string_view) const;

}  // namespace vyx
