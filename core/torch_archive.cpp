#include "core/torch_archive.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <iterator>
#include <optional>
#include <string_view>
#include <utility>

#include "core/error.h"
#include "core/text.h"
#include "core/zip.h"

namespace vyx {
namespace {

constexpr uint64_t kMaxPickleBytes = 512u << 10;
constexpr size_t kMaxDepth = 64, kMaxValues = 100'000, kMaxDimensions = 8;

constexpr std::pair<std::string_view, ElementType> kStorages[] = {
    {"torch FloatStorage", ElementType::f32},   {"torch DoubleStorage", ElementType::f64},    {"torch HalfStorage", ElementType::f16},
    {"torch LongStorage", ElementType::i64},    {"torch BFloat16Storage", ElementType::bf16}, {"torch IntStorage", ElementType::i32},
    {"torch ShortStorage", ElementType::i16},   {"torch CharStorage", ElementType::i8},       {"torch ByteStorage", ElementType::u8},
    {"torch BoolStorage", ElementType::boolean}};
constexpr std::string_view kOrderedDict = "collections OrderedDict";
constexpr std::string_view kRebuildTensor = "torch._utils _rebuild_tensor_v2";
constexpr std::string_view kRebuildParameter = "torch._utils _rebuild_parameter";

// Pickle's opcodes, protocol 2 (Python's pickletools.py): those that torch.save makes of tensors and plain values.
enum Opcode : uint8_t {
  kProto = 0x80,
  kStop = '.',
  kMark = '(',
  kNone = 'N',
  kTrue = 0x88,
  kFalse = 0x89,
  kInt = 'J',
  kInt1 = 'K',
  kInt2 = 'M',
  kLong1 = 0x8a,
  kFloat = 'G',
  kText = 'X',
  kEmptyTuple = ')',
  kTuple = 't',
  kTuple1 = 0x85,
  kTuple2 = 0x86,
  kTuple3 = 0x87,
  kEmptyList = ']',
  kAppend = 'a',
  kAppends = 'e',
  kEmptyDict = '}',
  kSetItem = 's',
  kSetItems = 'u',
  kPut = 'q',
  kLongPut = 'r',
  kGet = 'h',
  kLongGet = 'j',
  kGlobal = 'c',
  kReduce = 'R',
  kBuild = 'b',
  kPersistent = 'Q',
};

enum class Kind { none, boolean, integer, number, text, tuple, list, dictionary, global, storage, tensor };
constexpr const char* kKindNames[] = {"None",   "a bool", "an int", "a float",   "a str",   "a tuple",
                                      "a list", "a dict", "a name", "a storage", "a tensor"};

using Ref = uint32_t;  // of a value
struct Value {
  Kind kind = Kind::none;
  int64_t integer = 0;  // or the index of a tensor or storage
  double number = 0;
  std::string text;        // or "module name" of a global
  std::vector<Ref> parts;  // of a tuple or list; keys and values in turns of a dictionary
};

struct Storage {
  ElementType type;
  uint64_t elements;
  std::span<const std::byte> bytes;
};

// Runs the pickle's stack machine over values of ours. Nothing recurses, so that nesting costs memory only, in proportion to the file.
class Unpickler {
 public:
  Unpickler(std::span<const std::byte> pickle, const ZipArchive& zip, std::string folder)
      : bytes_(pickle), zip_(zip), folder_(std::move(folder)) {}

  TorchArchive read() {
    const auto version = take<uint8_t>() == kProto ? take<uint8_t>() : 0;
    if (version != 2) refuse(fmt::format("protocol {}", version), "2, torch.save's default");
    Opcode opcode{};
    do {
      opcode = static_cast<Opcode>(take<uint8_t>());
      step(opcode);
    } while (opcode != kStop);
    if (stack_.size() != 1 || !marks_.empty()) refuse("an unfinished value", "one value");
    if (values_[stack_[0]].kind != Kind::dictionary) refuse(kind_name(stack_[0]), "a dict of tensors, such as a state_dict");
    TorchArchive archive;
    archive.values = flatten(stack_[0], "", 0, archive);
    return archive;
  }

 private:
  [[noreturn]] void refuse(std::string_view found, std::string_view expected) const {
    fail("{}: data.pkl: at byte {}: found {}, expected {}", zip_.source(), at_, found, expected);
  }
  const char* kind_name(Ref value) const { return kKindNames[static_cast<size_t>(values_[value].kind)]; }

  std::string_view take_text(uint64_t size) {
    if (size > bytes_.size() - at_) refuse(fmt::format("the end of the file before {} bytes", size), "them");
    const std::string_view text(reinterpret_cast<const char*>(bytes_.data()) + at_, size);
    at_ += size;
    return text;
  }

  template <class T>
  T take() {
    T value;
    std::memcpy(&value, take_text(sizeof(T)).data(), sizeof(T));
    return value;
  }

  std::string_view take_line() {
    const std::string_view rest(reinterpret_cast<const char*>(bytes_.data()) + at_, bytes_.size() - at_);
    const size_t end = rest.find('\n');
    if (end == std::string_view::npos) refuse("the end of the file", "the end of a line");
    at_ += end + 1;
    return rest.substr(0, end);
  }

  void push(Value value) {
    stack_.push_back(static_cast<Ref>(values_.size()));
    values_.push_back(std::move(value));
  }
  void push_integer(int64_t integer) { push({.kind = Kind::integer, .integer = integer}); }

  // What may be popped: nothing from before the last mark.
  size_t available() const { return stack_.size() - (marks_.empty() ? 0 : marks_.back()); }
  std::vector<Ref> pop(size_t count) {
    if (available() < count) refuse("an empty stack", "a value");
    std::vector<Ref> popped(stack_.end() - static_cast<std::ptrdiff_t>(count), stack_.end());
    stack_.resize(stack_.size() - count);
    return popped;
  }
  std::vector<Ref> pop_to_mark() {
    if (marks_.empty()) refuse("no mark", "one");
    std::vector<Ref> popped = pop(available());
    marks_.pop_back();
    return popped;
  }
  Value& top(Kind kind) {
    if (available() < 1) refuse("an empty stack", "a value");
    if (values_[stack_.back()].kind != kind) refuse(kind_name(stack_.back()), kKindNames[static_cast<size_t>(kind)]);
    return values_[stack_.back()];
  }
  void extend(Kind kind, const std::vector<Ref>& parts) {
    if (kind == Kind::dictionary && parts.size() % 2 != 0) refuse("a key without a value", "both");
    Value& container = top(kind);
    container.parts.insert(container.parts.end(), parts.begin(), parts.end());
  }

  void put(uint32_t index) {
    if (available() < 1) refuse("an empty stack", "a value");
    memo_[index] = stack_.back();
  }
  void get(uint32_t index) {
    const auto found = memo_.find(index);
    if (found == memo_.end()) refuse(fmt::format("a reference to value {}", index), "one that was kept");
    stack_.push_back(found->second);
  }

  void step(Opcode opcode) {
    switch (opcode) {
      case kStop:
        return;
      case kMark:
        return marks_.push_back(stack_.size());
      case kNone:
        return push({});
      case kTrue:
        return push({.kind = Kind::boolean, .integer = 1});
      case kFalse:
        return push({.kind = Kind::boolean});
      case kInt:
        return push_integer(take<int32_t>());
      case kInt1:
        return push_integer(take<uint8_t>());
      case kInt2:
        return push_integer(take<uint16_t>());
      case kLong1:
        return push_integer(take_long());
      case kFloat:
        return push({.kind = Kind::number, .number = std::bit_cast<double>(__builtin_bswap64(take<uint64_t>()))});
      case kText:
        return push({.kind = Kind::text, .text = std::string(take_text(take<uint32_t>()))});
      case kEmptyTuple:
        return push({.kind = Kind::tuple});
      case kTuple:
        return push({.kind = Kind::tuple, .parts = pop_to_mark()});
      case kTuple1:
        return push({.kind = Kind::tuple, .parts = pop(1)});
      case kTuple2:
        return push({.kind = Kind::tuple, .parts = pop(2)});
      case kTuple3:
        return push({.kind = Kind::tuple, .parts = pop(3)});
      case kEmptyList:
        return push({.kind = Kind::list});
      case kAppend:
        return extend(Kind::list, pop(1));
      case kAppends:
        return extend(Kind::list, pop_to_mark());
      case kEmptyDict:
        return push({.kind = Kind::dictionary});
      case kSetItem:
        return extend(Kind::dictionary, pop(2));
      case kSetItems:
        return extend(Kind::dictionary, pop_to_mark());
      case kPut:
        return put(take<uint8_t>());
      case kLongPut:
        return put(take<uint32_t>());
      case kGet:
        return get(take<uint8_t>());
      case kLongGet:
        return get(take<uint32_t>());
      case kGlobal:
        return push_global();
      case kReduce:
        return reduce();
      case kBuild: {  // attributes of an OrderedDict: a state_dict's _metadata, which nobody needs
        pop(1);
        top(Kind::dictionary);
        return;
      }
      case kPersistent:
        return push_storage();
      default:
        refuse(fmt::format("opcode {:#04x}", static_cast<uint8_t>(opcode)), "one that torch.save makes of tensors and plain values");
    }
  }

  int64_t take_long() {
    const auto size = take<uint8_t>();
    if (size > 8) refuse(fmt::format("an int of {} bytes", size), "at most 8");
    const std::string_view digits = take_text(size);
    uint64_t value = size > 0 && (digits.back() & 0x80) != 0 ? ~uint64_t{0} : 0;  // the sign
    std::memcpy(&value, digits.data(), size);
    return static_cast<int64_t>(value);
  }

  void push_global() {
    const std::string_view module = take_line(), name = take_line();
    std::string full = fmt::format("{} {}", module, name);
    const bool known = full == kOrderedDict || full == kRebuildTensor || full == kRebuildParameter ||
                       std::any_of(std::begin(kStorages), std::end(kStorages), [&](const auto& storage) { return storage.first == full; });
    if (!known)
      refuse("the object " + quote(full), "tensors and plain values only; in Python, save the state_dict() of the module instead");
    push({.kind = Kind::global, .text = std::move(full)});
  }

  void reduce() {
    const std::vector<Ref> call = pop(2);
    const Value& function = values_[call[0]];
    const Value& arguments = values_[call[1]];
    if (function.kind != Kind::global || arguments.kind != Kind::tuple) refuse(std::string("a call of ") + kind_name(call[0]), "a name");
    if (function.text == kOrderedDict && arguments.parts.empty()) return push({.kind = Kind::dictionary});
    if (function.text == kRebuildTensor && arguments.parts.size() >= 6) return push_tensor(arguments.parts);
    if (function.text == kRebuildParameter && !arguments.parts.empty() && values_[arguments.parts[0]].kind == Kind::tensor)
      return stack_.push_back(arguments.parts[0]);
    refuse(fmt::format("a call of {} with {} arguments", quote(function.text), arguments.parts.size()), "a tensor or an empty OrderedDict");
  }

  // ('storage', type, record, location, elements) → the record, which holds just as many.
  void push_storage() {
    const std::vector<Ref> popped = pop(1);
    const std::vector<Ref>& parts = values_[popped[0]].parts;
    const bool good = values_[popped[0]].kind == Kind::tuple && parts.size() == 5 && values_[parts[0]].text == "storage" &&
                      values_[parts[1]].kind == Kind::global && values_[parts[2]].kind == Kind::text &&
                      values_[parts[4]].kind == Kind::integer;
    if (!good) refuse("a reference of another kind", "one to a tensor's storage");
    const auto* type = std::find_if(std::begin(kStorages), std::end(kStorages),
                                    [&](const auto& storage) { return storage.first == values_[parts[1]].text; });
    if (type == std::end(kStorages)) refuse(quote(values_[parts[1]].text), "a type of storage");
    const std::string name = folder_ + "data/" + values_[parts[2]].text;
    const int64_t elements = values_[parts[4]].integer;
    const ZipEntry* record = zip_.find(name);
    if (record == nullptr) refuse("no record " + quote(name), "it in the archive");
    if (record->deflated) refuse("a compressed record " + quote(name), "a stored one");
    const int64_t shape[] = {elements};
    if (byte_count(type->second, shape) != record->size)
      refuse(fmt::format("{} bytes in the record {}", record->size, quote(name)),
             fmt::format("{} elements of {}", elements, name_of(type->second)));
    auto bytes = read_records_.find(name);
    if (bytes == read_records_.end()) bytes = read_records_.emplace(name, zip_.read(*record).bytes).first;
    push({.kind = Kind::storage, .integer = static_cast<int64_t>(storages_.size())});
    storages_.push_back({type->second, static_cast<uint64_t>(elements), bytes->second});
  }

  std::vector<int64_t> integers(Ref tuple) const {
    std::vector<int64_t> numbers;
    if (values_[tuple].kind != Kind::tuple) refuse(kind_name(tuple), "a tuple of sizes");
    for (const Ref part : values_[tuple].parts) {
      if (values_[part].kind != Kind::integer || values_[part].integer < 0 || numbers.size() == kMaxDimensions)
        refuse("something else in a tensor's sizes or strides", fmt::format("up to {} integers that are not negative", kMaxDimensions));
      numbers.push_back(values_[part].integer);
    }
    return numbers;
  }

  // (storage, offset, sizes, strides, requires_grad, hooks)
  void push_tensor(const std::vector<Ref>& arguments) {
    if (values_[arguments[0]].kind != Kind::storage || values_[arguments[1]].kind != Kind::integer)
      refuse("a tensor of something else", "of a storage");
    const Storage& storage = storages_[static_cast<size_t>(values_[arguments[0]].integer)];
    TorchTensor tensor = {storage.type, integers(arguments[2]), integers(arguments[3]), values_[arguments[1]].integer, storage.bytes};
    if (!fits(tensor, storage.elements))
      refuse(fmt::format("a tensor [{}] with strides [{}] at {} of a storage of {} elements", fmt::join(tensor.shape, ", "),
                         fmt::join(tensor.strides, ", "), tensor.offset, storage.elements),
             "one that lies within it, no two elements at one place");
    push({.kind = Kind::tensor, .integer = static_cast<int64_t>(tensors_.size())});
    tensors_.push_back(std::move(tensor));
  }

  static bool fits(const TorchTensor& tensor, uint64_t elements) {
    if (tensor.shape.size() != tensor.strides.size() || tensor.offset < 0) return false;
    const std::optional<uint64_t> count = element_count(tensor.shape);
    if (!count) return false;
    if (*count == 0) return static_cast<uint64_t>(tensor.offset) <= elements;
    // From the smallest stride up, each must step over all that the ones before it reach.
    std::vector<std::pair<uint64_t, uint64_t>> steps;
    for (size_t i = 0; i < tensor.shape.size(); ++i)
      if (tensor.shape[i] > 1) steps.emplace_back(tensor.strides[i], tensor.shape[i] - 1);
    std::sort(steps.begin(), steps.end());
    uint64_t reach = 0;  // of the last element
    for (const auto& [stride, times] : steps) {
      uint64_t further = 0;
      if (stride <= reach || __builtin_mul_overflow(stride, times, &further) || __builtin_add_overflow(reach, further, &reach))
        return false;
    }
    return static_cast<uint64_t>(tensor.offset) < elements && reach < elements - static_cast<uint64_t>(tensor.offset);
  }

  // The value without its tensors, which go to `archive` by their paths.
  Json flatten(Ref ref, const std::string& path, size_t depth, TorchArchive& archive) {
    if (depth > kMaxDepth) refuse(fmt::format("values nested deeper than {}", kMaxDepth), "at most that");
    if (++flattened_ > kMaxValues) refuse(fmt::format("more than {} values", kMaxValues), "at most that");
    const Value& value = values_[ref];
    const auto member = [&](const std::string& key) { return path.empty() ? key : path + '.' + key; };
    switch (value.kind) {
      case Kind::none:
        return nullptr;
      case Kind::boolean:
        return value.integer != 0;
      case Kind::integer:
        return value.integer;
      case Kind::number:
        return value.number;
      case Kind::text:
        if (!is_utf8(value.text)) refuse(quote(value.text), "UTF-8");
        return value.text;
      case Kind::tuple:
      case Kind::list: {
        Json list = Json::array();
        for (const Ref part : value.parts) list.push_back(flatten(part, member(std::to_string(list.size())), depth + 1, archive));
        return list;
      }
      case Kind::dictionary: {
        Json object = Json::object();
        for (size_t i = 0; i < value.parts.size(); i += 2) {
          const Value& key = values_[value.parts[i]];
          if (key.kind != Kind::text && key.kind != Kind::integer)
            refuse(std::string("the key ") + kind_name(value.parts[i]), "a str or an int");
          const std::string name = key.kind == Kind::text ? key.text : std::to_string(key.integer);
          if (!is_utf8(name)) refuse(quote(name), "UTF-8");
          const bool is_tensor = values_[value.parts[i + 1]].kind == Kind::tensor;
          Json part = flatten(value.parts[i + 1], member(name), depth + 1, archive);
          if (!is_tensor && !object.emplace(name, std::move(part)).second) refuse("the key " + quote(name) + " again", "each once");
        }
        return object;
      }
      case Kind::tensor:
        if (!archive.tensors.emplace(path, tensors_[static_cast<size_t>(value.integer)]).second)
          refuse("the tensor " + quote(path) + " again", "each once");
        return nullptr;
      default:
        refuse(kind_name(ref), "tensors and plain values");
    }
  }

  std::span<const std::byte> bytes_;
  const ZipArchive& zip_;
  std::string folder_;
  uint64_t at_ = 0;
  std::vector<Value> values_;
  std::vector<Storage> storages_;
  std::vector<TorchTensor> tensors_;
  std::map<std::string, std::span<const std::byte>> read_records_;
  std::vector<Ref> stack_;
  std::vector<size_t> marks_;  // sizes of the stack
  std::map<uint32_t, Ref> memo_;
  size_t flattened_ = 0;
};

// The pickle of one dictionary.
class Pickler {
 public:
  std::string pickle(const TorchArchive& archive) {
    put(kProto);
    out_ += '\2';
    put(kEmptyDict);
    for (const auto& [name, value] : archive.values.items()) item(name, value);
    size_t record = 0;
    for (const auto& [name, tensor] : archive.tensors) {
      put_text(name);
      put_tensor(tensor, std::to_string(record++));
      put(kSetItem);
    }
    put(kStop);
    return std::move(out_);
  }

 private:
  void put(Opcode opcode) { out_ += static_cast<char>(opcode); }

  template <class T>
  void put_raw(T value) {
    out_.append(reinterpret_cast<const char*>(&value), sizeof(T));
  }

  void put_text(const std::string& text) {
    put(kText);
    put_raw(static_cast<uint32_t>(text.size()));
    out_ += text;
  }

  void put_integer(int64_t value) {
    if (value >= INT32_MIN && value <= INT32_MAX) {
      put(kInt);
      put_raw(static_cast<int32_t>(value));
    } else {
      put(kLong1);
      out_ += '\x8';
      put_raw(value);
    }
  }

  void put_global(std::string_view name) {
    put(kGlobal);
    const size_t space = name.find(' ');
    out_ += fmt::format("{}\n{}\n", name.substr(0, space), name.substr(space + 1));
  }

  void put_tuple(const std::vector<int64_t>& numbers) {
    put(kMark);
    for (const int64_t number : numbers) put_integer(number);
    put(kTuple);
  }

  void put_tensor(const TorchTensor& tensor, const std::string& record) {
    const auto* type =
        std::find_if(std::begin(kStorages), std::end(kStorages), [&](const auto& storage) { return storage.second == tensor.type; });
    if (type == std::end(kStorages)) fail("a tensor of {} cannot be written for torch.load", name_of(tensor.type));
    put_global(kRebuildTensor);
    put(kMark);
    put(kMark);
    put_text("storage");
    put_global(type->first);
    put_text(record);
    put_text("cpu");
    put_integer(static_cast<int64_t>(tensor.storage.size() * 8 / bits_of(tensor.type)));
    put(kTuple);
    put(kPersistent);
    put_integer(tensor.offset);
    put_tuple(tensor.shape);
    put_tuple(tensor.strides);
    put(kFalse);  // requires_grad
    put_global(kOrderedDict);
    put(kEmptyTuple);
    put(kReduce);
    put(kTuple);
    put(kReduce);
  }

  void item(const std::string& name, const Json& value) {
    put_text(name);
    put_value(value);
    put(kSetItem);
  }

  void put_value(const Json& value) {
    if (value.is_null()) {
      put(kNone);
    } else if (value.is_boolean()) {
      put(value.get<bool>() ? kTrue : kFalse);
    } else if (value.is_number_integer()) {
      put_integer(value.get<int64_t>());
    } else if (value.is_number()) {
      put(kFloat);
      put_raw(__builtin_bswap64(std::bit_cast<uint64_t>(value.get<double>())));
    } else if (value.is_string()) {
      put_text(value.get_ref<const std::string&>());
    } else if (value.is_array()) {
      put(kEmptyList);
      for (const Json& part : value) {
        put_value(part);
        put(kAppend);
      }
    } else {
      put(kEmptyDict);
      for (const auto& [name, part] : value.items()) item(name, part);
    }
  }

  std::string out_;
};

// The folder that all records are in, "archive/", found by its pickle.
std::string folder_of(const ZipArchive& zip) {
  std::string folder;
  for (const ZipEntry& entry : zip.entries())
    if (const size_t slash = entry.name.find('/'); slash != std::string::npos && entry.name.substr(slash) == "/data.pkl")
      folder = entry.name.substr(0, slash + 1);
  if (folder.empty()) fail("{}: found no data.pkl in the archive, expected a file of torch.save", zip.source());
  for (const ZipEntry& entry : zip.entries())
    if (!entry.name.starts_with(folder))
      fail("{}: found {} outside {}, expected one folder", zip.source(), quote(entry.name), quote(folder));
  if (zip.find(folder + "constants.pkl") != nullptr)
    fail("{}: found a TorchScript archive, expected tensors of torch.save(module.state_dict(), path)", zip.source());
  return folder;
}

}  // namespace

TorchArchive parse_torch_archive(std::span<const std::byte> bytes, std::string source) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (text.starts_with("\x80\x02") || text.starts_with("\x80\x04"))
    fail("{}: found a bare pickle, as torch.save wrote before 1.6, expected a zip archive; in Python, load it and save it again", source);
  if (!text.starts_with("PK")) fail("{}: found no zip archive, expected a file of torch.save", source);
  const ZipArchive zip = ZipArchive::parse(bytes, std::move(source));
  const std::string folder = folder_of(zip);
  if (const ZipEntry* order = zip.find(folder + "byteorder")) {
    const ZipContent content = zip.read(*order);
    const std::string_view found(reinterpret_cast<const char*>(content.bytes.data()), content.bytes.size());
    if (found != "little") fail("{}: found byte order {}, expected \"little\"", zip.source(), quote(found));
  }
  const ZipEntry& pickle = *zip.find(folder + "data.pkl");
  if (pickle.size > kMaxPickleBytes)
    fail("{}: found a data.pkl of {} bytes, expected at most {}", zip.source(), pickle.size, kMaxPickleBytes);
  const ZipContent content = zip.read(pickle);
  return Unpickler(content.bytes, zip, folder).read();
}

void write_torch_archive(const std::filesystem::path& path, const TorchArchive& archive) {
  ZipWriter zip(path);
  zip.add("archive/data.pkl", Pickler().pickle(archive));
  zip.add("archive/byteorder", "little");
  size_t record = 0;
  for (const auto& [name, tensor] : archive.tensors) zip.add(fmt::format("archive/data/{}", record++), tensor.storage);
  zip.add("archive/version", "3\n");
  zip.commit();
}

}  // namespace vyx
