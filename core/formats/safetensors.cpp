#include "core/formats/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <tuple>
#include <utility>

#include "core/base/error.h"
#include "core/base/json_guard.h"
#include "core/base/text.h"
#include "core/base/utf8.h"

namespace vyx {
namespace {

static_assert(std::endian::native == std::endian::little,
              "safetensors files are little-endian and are read in place");

constexpr uint64_t kLengthBytes = 8;               // of the header, in front of it
constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // as safetensors has it
constexpr uint64_t kMaxTensors = 1u << 18;
constexpr size_t kMaxDimensions = 8;
constexpr const char* kMetadata = "__metadata__";
// Depth: the object, an object per tensor, its arrays. A tensor has some seven values.
constexpr JsonLimits kHeaderLimits = {
    .max_bytes = kMaxHeaderBytes, .max_depth = 3, .max_values = 8 * kMaxTensors};

struct Header {
  SafetensorsMetadata metadata;
  // In the order of their data, which follow one another from the first byte on.
  std::vector<SafetensorsEntry> entries;
  uint64_t data_size = 0;
};

// A value for a message, in a few characters.
std::string describe(const Json& value) {
  if (value.is_string()) return quote(value.get_ref<const std::string&>());
  if (value.is_structured()) return fmt::format("an {} of {}", value.type_name(), value.size());
  return value.dump();
}

// One tensor's object in the header.
class EntryReader {
 public:
  EntryReader(const std::string& name, const Json& object, std::string_view source)
      : name_(name), object_(object), source_(source) {}

  SafetensorsEntry entry() const {
    if (!object_.is_object()) refuse("", describe(object_), "an object");
    for (const auto& [key, value] : object_.items())
      if (key != "dtype" && key != "shape" && key != "data_offsets")
        refuse("", "the key " + quote(key), "dtype, shape and data_offsets only");
    return {name_, type(), shape()};
  }

  // [begin, end) of the data, counted from the end of the header; as large as the entry says.
  std::pair<uint64_t, uint64_t> range(const SafetensorsEntry& entry) const {
    const Json& offsets = array("data_offsets");
    if (offsets.size() != 2)
      refuse("data_offsets", fmt::format("{} numbers", offsets.size()),
             "2, where the data begin and end");
    const uint64_t begin = number(offsets[0], "data_offsets"),
                   end = number(offsets[1], "data_offsets");
    if (begin > end)
      refuse("data_offsets", fmt::format("{} to {}", begin, end),
             "a begin that is not after the end");
    const auto size = byte_count(entry.type, entry.shape);
    if (!size)
      refuse("shape", fmt::format("[{}] of {}", fmt::join(entry.shape, ", "), name_of(entry.type)),
             "whole bytes, fewer than 2^61");
    if (end - begin != *size)
      refuse("data_offsets", fmt::format("{} bytes, from {} to {}", end - begin, begin, end),
             fmt::format("the {} that [{}] of {} takes", *size, fmt::join(entry.shape, ", "),
                         name_of(entry.type)));
    return {begin, end};
  }

  template <class Expected>
  [[noreturn]] void refuse(std::string_view field, std::string_view found,
                           const Expected& expected) const {
    fail("{}: tensor {}{}{}: found {}, expected {}", source_, quote(name_),
         field.empty() ? "" : " ", field, found, expected);
  }

 private:
  const Json& member(const char* key, std::string_view expected) const {
    const auto found = object_.find(key);
    if (found == object_.end()) refuse(key, "nothing", expected);
    return *found;
  }

  const Json& array(const char* key) const {
    const Json& value = member(key, "an array of numbers");
    if (!value.is_array()) refuse(key, describe(value), "an array of numbers");
    return value;
  }

  uint64_t number(const Json& value, const char* key) const {
    if (!value.is_number_unsigned() || value.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX))
      refuse(key, describe(value), "integers from 0 to 2^63 - 1");
    return value.get<uint64_t>();
  }

  ElementType type() const {
    const Json& value = member("dtype", "a type's name");
    const auto type = value.is_string()
                          ? element_type_from_name(value.get_ref<const std::string&>())
                          : std::nullopt;
    if (!type)
      refuse("dtype", describe(value), "a type of safetensors, such as F32, BF16, F16 or I64");
    return *type;
  }

  std::vector<int64_t> shape() const {
    const Json& sizes = array("shape");
    if (sizes.size() > kMaxDimensions)
      refuse("shape", fmt::format("{} dimensions", sizes.size()),
             fmt::format("at most {}", kMaxDimensions));
    std::vector<int64_t> shape;
    for (const Json& size : sizes) shape.push_back(static_cast<int64_t>(number(size, "shape")));
    return shape;
  }

  const std::string& name_;
  const Json& object_;
  std::string_view source_;
};

SafetensorsMetadata read_metadata(const Json& object, std::string_view source) {
  if (!object.is_object())
    fail("{}: {}: found {}, expected an object of strings", source, kMetadata, describe(object));
  SafetensorsMetadata metadata;
  for (const auto& [key, value] : object.items()) {
    if (!value.is_string())
      fail("{}: {} {}: found {}, expected a string", source, kMetadata, quote(key),
           describe(value));
    metadata.emplace(key, value.get<std::string>());
  }
  return metadata;
}

Header parse_header(std::string_view text, std::string_view source) {
  if (!text.starts_with('{'))
    fail("{}: at byte {}: found {}, expected the header's \"{{\"; is this a safetensors file?",
         source, kLengthBytes, quote(text.substr(0, 1)));
  if (const size_t last = text.find_last_not_of(' '); text[last] != '}')
    fail("{}: at byte {}: found {}, expected the header's \"}}\" and spaces", source,
         kLengthBytes + last, quote(text.substr(last, 1)));
  const Json json = parse_json(text, fmt::format("{}: header", source), kHeaderLimits);
  if (json.size() > kMaxTensors)
    fail("{}: found {} tensors, expected at most {}", source, json.size(), kMaxTensors);

  Header header;
  struct Placed {
    uint64_t begin, end;
    SafetensorsEntry entry;
  };
  std::vector<Placed> placed;
  placed.reserve(json.size());
  for (const auto& [name, object] : json.items()) {
    if (name == kMetadata) {
      header.metadata = read_metadata(object, source);
      continue;
    }
    const EntryReader reader(name, object, source);
    SafetensorsEntry entry = reader.entry();
    const auto [begin, end] = reader.range(entry);
    placed.push_back({begin, end, std::move(entry)});
  }
  // An empty tensor comes before the tensor that begins at the same byte.
  std::sort(placed.begin(), placed.end(), [](const Placed& a, const Placed& b) {
    return std::tie(a.begin, a.end, a.entry.name) < std::tie(b.begin, b.end, b.entry.name);
  });
  for (Placed& each : placed) {
    if (each.begin != header.data_size)
      fail(
          "{}: tensor {} data_offsets: found {} as the begin, expected {}, where the tensor before "
          "it ends",
          source, quote(each.entry.name), each.begin, header.data_size);
    header.data_size = each.end;
    header.entries.push_back(std::move(each.entry));
  }
  return header;
}

// The length and the header's text, padded so that the data begin at a multiple of 8 bytes.
std::string header_bytes(const std::vector<SafetensorsEntry>& entries,
                         const SafetensorsMetadata& metadata, std::string_view source) {
  const auto json_text = [&](const std::string& text) {
    if (!is_utf8(text)) fail("{}: found {}, expected UTF-8", source, quote(text));
    return Json(text).dump();
  };
  std::string text = "{";
  if (!metadata.empty()) {
    std::vector<std::string> members;
    for (const auto& [key, value] : metadata)
      members.push_back(json_text(key) + ':' + json_text(value));
    text += fmt::format("\"{}\":{{{}}},", kMetadata, fmt::join(members, ","));
  }
  uint64_t offset = 0;
  for (const SafetensorsEntry& entry : entries) {
    const auto size = byte_count(entry.type, entry.shape);
    const uint64_t end = offset + size.value_or(0);  // the parser below refuses what has no size
    text += fmt::format("{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}},",
                        json_text(entry.name), name_of(entry.type), fmt::join(entry.shape, ","),
                        offset, end);
    offset = end;
  }
  if (text.back() == ',') text.pop_back();
  text += '}';
  text.append((8 - text.size() % 8) % 8, ' ');

  std::string bytes(kLengthBytes, '\0');
  const uint64_t length = text.size();
  std::memcpy(bytes.data(), &length, kLengthBytes);
  return bytes += text;
}

}  // namespace

Safetensors Safetensors::parse(std::span<const std::byte> bytes, std::string source) {
  if (bytes.size() < kLengthBytes)
    fail("{}: found {} bytes, expected a safetensors file, which has {} and more; is it complete?",
         source, bytes.size(), kLengthBytes + 2);
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), kLengthBytes);
  const uint64_t rest = bytes.size() - kLengthBytes;
  if (length < 2 || length > std::min(rest, kMaxHeaderBytes))
    fail(
        "{}: at byte 0: header length: found {}, expected 2 to {}; is this a complete safetensors "
        "file?",
        source, length, std::min(rest, kMaxHeaderBytes));
  Header header =
      parse_header({reinterpret_cast<const char*>(bytes.data()) + kLengthBytes, length}, source);

  std::span<const std::byte> data = bytes.subspan(kLengthBytes + length);
  if (header.data_size != data.size())
    fail(
        "{}: found {} bytes of data, expected {}, where the last tensor ends; is the file "
        "complete?",
        source, data.size(), header.data_size);
  Safetensors file;
  file.source_ = std::move(source);
  file.metadata_ = std::move(header.metadata);
  file.tensors_.reserve(header.entries.size());
  for (SafetensorsEntry& entry : header.entries) {
    const uint64_t size = *byte_count(entry.type, entry.shape);
    file.index_.emplace(entry.name, file.tensors_.size());
    file.tensors_.push_back({std::move(entry), data.first(size)});
    data = data.subspan(size);
  }
  return file;
}

const SafetensorsTensor* Safetensors::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

const SafetensorsTensor& Safetensors::tensor(std::string_view name) const {
  const SafetensorsTensor* tensor = find(name);
  if (tensor == nullptr)
    fail("{}: tensor {}: found nothing, expected it in the file", source_, quote(name));
  return *tensor;
}

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path,
                                     const std::vector<SafetensorsEntry>& entries,
                                     const SafetensorsMetadata& metadata, FileSystem& fs)
    : path_(path.string()), file_(path, fs) {
  const std::string bytes = header_bytes(entries, metadata, path_);
  // The parser checks what we write: what is written can be read.
  missing_ = parse_header(std::string_view(bytes).substr(kLengthBytes), path_).data_size;
  file_.write(bytes);
}

void SafetensorsWriter::write(std::span<const std::byte> data) {
  if (data.size() > missing_)
    fail("{}: found {} bytes of data, expected at most {} more", path_, data.size(), missing_);
  missing_ -= data.size();
  file_.write(data);
}

void SafetensorsWriter::commit() {
  if (missing_ != 0) fail("{}: found the end of the data, expected {} bytes more", path_, missing_);
  file_.commit();
}

void write_safetensors(const std::filesystem::path& path, std::vector<SafetensorsTensor> tensors,
                       const SafetensorsMetadata& metadata) {
  std::sort(tensors.begin(), tensors.end(),
            [](const SafetensorsTensor& a, const SafetensorsTensor& b) {
              return std::tie(b.type, a.name) < std::tie(a.type, b.name);
            });
  SafetensorsWriter writer(path, {tensors.begin(), tensors.end()}, metadata);
  for (const SafetensorsTensor& tensor : tensors) {
    if (tensor.data.size() != byte_count(tensor.type, tensor.shape))
      fail("{}: tensor {}: found {} bytes, expected what [{}] of {} takes", path.string(),
           quote(tensor.name), tensor.data.size(), fmt::join(tensor.shape, ", "),
           name_of(tensor.type));
    writer.write(tensor.data);
  }
  writer.commit();
}

}  // namespace vyx
