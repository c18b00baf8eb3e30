#include "core/formats/unpickler.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <iterator>
#include <map>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/base/text.h"
#include "core/base/utf8.h"
#include "core/formats/script_pickle.h"
#include "core/formats/torch_pickle.h"

namespace vyx {
namespace {

using namespace torch_pickle;

constexpr size_t kMaxDepth = 64, kMaxValues = 100'000, kMaxDimensions = 8;
// A text is written once and may be referred to any number of times; each is a copy here.
constexpr size_t kMaxTextBytes = 8u << 20;

// Of TorchScript's pickles: modules nest, and their lists are long.
constexpr uint64_t kMaxScriptBytes = 16u << 20;
constexpr size_t kMaxScriptValues = 1'000'000, kMaxScriptDepth = 500, kMaxTypeDepth = 64;
constexpr uint64_t kMaxExpanded = 1u << 24;  // elements of a tensor whose elements share places

enum class Kind {
  none,
  boolean,
  integer,
  number,
  text,
  tuple,
  list,
  dictionary,
  global,
  storage,
  tensor,
  object
};
constexpr const char* kKindNames[] = {"None",   "a bool",    "an int",   "a float",
                                      "a str",  "a tuple",   "a list",   "a dict",
                                      "a name", "a storage", "a tensor", "an object"};

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
  std::string type_name;  // "torch FloatStorage"
  uint64_t elements;
  std::span<const std::byte> bytes;
};

enum class Dialect {
  values,  // of torch.save: tensors and plain values
  script   // of TorchScript: objects of the archive's classes, too; checked and not read
};

// Runs the pickle's stack machine over values of ours. Nothing recurses, so that nesting costs
// memory only, in proportion to the file.
class Unpickler {
 public:
  /// `part`: "data" of data.pkl, whose records are in data/.
  Unpickler(std::span<const std::byte> pickle, const ZipArchive& zip, std::string folder,
            std::string part, Dialect dialect)
      : bytes_(pickle),
        zip_(zip),
        folder_(std::move(folder)),
        part_(std::move(part)),
        script_(dialect == Dialect::script) {}

  TorchArchive read() {
    run();
    if (values_[stack_[0]].kind != Kind::dictionary)
      refuse(kind_name(stack_[0]), "a dict of tensors, such as a state_dict");
    TorchArchive archive;
    archive.values = flatten(stack_[0], "", 0, archive);
    return archive;
  }

  void check() {
    run();
    check_nesting();
  }

  std::vector<ScriptObject> objects() {
    check();
    if (values_[stack_[0]].kind != Kind::object) refuse(kind_name(stack_[0]), "a module");
    std::vector<ScriptObject> objects;
    std::vector<Ref> found = {stack_[0]};
    std::map<Ref, size_t> index = {{stack_[0], 0}};
    for (size_t i = 0; i < found.size(); ++i) objects.push_back(outline(found[i], found, index));
    return objects;
  }

 private:
  void run() {
    const auto version = take<uint8_t>() == kProto ? take<uint8_t>() : 0;
    if (version != 2) refuse(fmt::format("protocol {}", version), "2, torch.save's default");
    Opcode opcode = kStop;
    do {
      opcode = static_cast<Opcode>(take<uint8_t>());
      step(opcode);
    } while (opcode != kStop);
    if (stack_.size() != 1 || !marks_.empty()) refuse("an unfinished value", "one value");
  }

  [[noreturn]] void refuse(std::string_view found, std::string_view expected) const {
    fail("{}: {}.pkl: at byte {}: found {}, expected {}", zip_.source(), part_, at_, found,
         expected);
  }
  const char* kind_name(Ref value) const {
    return kKindNames[static_cast<size_t>(values_[value].kind)];
  }

  std::string_view take_text(uint64_t size) {
    if (size > bytes_.size() - at_)
      refuse("the end of the file", fmt::format("{} more bytes", size));
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
    const std::string_view rest(reinterpret_cast<const char*>(bytes_.data()) + at_,
                                bytes_.size() - at_);
    const size_t end = rest.find('\n');
    if (end == std::string_view::npos) refuse("the end of the file", "the end of a line");
    at_ += end + 1;
    return rest.substr(0, end);
  }

  void push(Value value) {
    if (script_ && values_.size() == kMaxScriptValues)
      refuse(fmt::format("more than {} values", kMaxScriptValues), "at most that");
    stack_.push_back(static_cast<Ref>(values_.size()));
    values_.push_back(std::move(value));
  }
  void push_integer(int64_t integer) { push({.kind = Kind::integer, .integer = integer}); }

  // What may be popped: only what was pushed after the last mark.
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
    if (values_[stack_.back()].kind != kind)
      refuse(kind_name(stack_.back()), kKindNames[static_cast<size_t>(kind)]);
    return values_[stack_.back()];
  }
  void extend(Kind kind, const std::vector<Ref>& parts) {
    if (kind == Kind::dictionary && parts.size() % 2 != 0) refuse("a key without a value", "both");
    Value& container = top(kind);
    container.parts.insert(container.parts.end(), parts.begin(), parts.end());
  }

  void put(uint32_t index) {
    if (available() < 1) refuse("an empty stack", "a value");
    if (script_ && index > at_)  // LibTorch would make a table of that size
      refuse(fmt::format("a value kept as number {}", index), "one of the values so far");
    memo_[index] = stack_.back();
  }
  void get(uint32_t index) {
    const auto found = memo_.find(index);
    if (found == memo_.end())
      refuse(fmt::format("a reference to value {}", index), "one that was kept");
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
        return push({.kind = Kind::number,
                     .number = std::bit_cast<double>(__builtin_bswap64(take<uint64_t>()))});
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
      case kBuild: {
        const std::vector<Ref> state = pop(1);
        if (script_)
          top(Kind::object).parts.push_back(state[0]);
        else  // attributes of an OrderedDict: a state_dict's _metadata, which is not needed
          top(Kind::dictionary);
        return;
      }
      case kNewObject:
        return push_object();
      case kPersistent:
        return push_storage();
      default:
        refuse(fmt::format("opcode {:#04x}", static_cast<uint8_t>(opcode)),
               "one that torch.save makes of tensors and plain values");
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
    const bool known = full == kOrderedDict || full == kRebuildTensor ||
                       full == kRebuildParameter || (script_ && is_script_name(full)) ||
                       std::any_of(std::begin(kStorages), std::end(kStorages),
                                   [&](const auto& storage) { return storage.first == full; });
    if (!known)
      refuse("the object " + quote(full),
             script_
                 ? "plain values, tensors, and objects of the archive's own classes"
                 : "tensors and plain values only; in Python, save the state_dict() of the module "
                   "instead");
    push({.kind = Kind::global, .text = std::move(full)});
  }

  // A class of the archive is in its code: "__torch__.a.b Net" in code/__torch__/a/b.py.
  bool is_own_class(std::string_view name) const {
    std::string path(name.substr(0, name.find(' ')));
    for (const char* other : {"torch", "collections", "builtins"})  // names with a meaning
      if (path == other || path.starts_with(fmt::format("{}.", other))) return false;
    if (path.starts_with(kForeignClasses)) return false;
    std::replace(path.begin(), path.end(), '.', '/');
    return zip_.find(fmt::format("{}code/{}.py", folder_, path)) != nullptr;
  }
  bool is_script_name(std::string_view name) const {
    return name == kComplexDouble || is_own_class(name) ||
           std::find(std::begin(kScriptNames), std::end(kScriptNames), name) !=
               std::end(kScriptNames);
  }

  // (class, ()) → an object without its state.
  void push_object() {
    const std::vector<Ref> popped = pop(2);
    const Value& type = values_[popped[0]];
    if (!script_ || type.kind != Kind::global || !is_own_class(type.text))
      refuse(std::string("an object of ") + kind_name(popped[0]), "one of the archive's classes");
    push({.kind = Kind::object, .text = std::string(type.text)});
  }

  // A list of one type, a device, or a value with the name of its type.
  void reduce_script_name(const std::string& name, const std::vector<Ref>& arguments) {
    if (name == kTypeTag) {
      const bool good = arguments.size() == 2 && values_[arguments[1]].kind == Kind::text;
      const std::string type = good ? values_[arguments[1]].text : "";
      if (!good || std::count(type.begin(), type.end(), '[') > std::ptrdiff_t{kMaxTypeDepth} ||
          std::count(type.begin(), type.end(), '(') > std::ptrdiff_t{kMaxTypeDepth})
        refuse("a type tag of " + quote(type), "a value and its type");
      stack_.push_back(arguments[0]);
    } else {
      push({.kind = Kind::list, .parts = arguments});
    }
  }

  void reduce() {
    const std::vector<Ref> call = pop(2);
    const Value& function = values_[call[0]];
    const Value& arguments = values_[call[1]];
    if (function.kind != Kind::global || arguments.kind != Kind::tuple)
      refuse(std::string("a call of ") + kind_name(call[0]), "a name");
    if (script_ && std::find(std::begin(kScriptNames), std::end(kScriptNames), function.text) !=
                       std::end(kScriptNames))
      return reduce_script_name(std::string(function.text), std::vector<Ref>(arguments.parts));
    if (function.text == kOrderedDict && arguments.parts.empty())
      return push({.kind = Kind::dictionary});
    if (function.text == kRebuildTensor && arguments.parts.size() >= 6)
      return push_tensor(arguments.parts);
    if (function.text == kRebuildParameter && !arguments.parts.empty() &&
        values_[arguments.parts[0]].kind == Kind::tensor)
      return stack_.push_back(arguments.parts[0]);
    refuse(
        fmt::format("a call of {} with {} arguments", quote(function.text), arguments.parts.size()),
        "a tensor or an empty OrderedDict");
  }

  // ('storage', type, record, location, elements) → the record, which holds just as many.
  void push_storage() {
    const std::vector<Ref> popped = pop(1);
    const std::vector<Ref>& parts = values_[popped[0]].parts;
    const bool good =
        values_[popped[0]].kind == Kind::tuple && parts.size() == 5 &&
        values_[parts[0]].text == "storage" && values_[parts[1]].kind == Kind::global &&
        values_[parts[2]].kind == Kind::text && values_[parts[4]].kind == Kind::integer;
    if (!good) refuse("a reference of another kind", "one to a tensor's storage");
    const std::string& type_name = values_[parts[1]].text;
    const bool pairs = script_ && type_name == kComplexDouble;  // of float64
    const auto* type =
        std::find_if(std::begin(kStorages), std::end(kStorages), [&](const auto& storage) {
          return storage.first == (pairs ? "torch DoubleStorage" : type_name);
        });
    if (type == std::end(kStorages)) refuse(quote(type_name), "a type of storage");
    const std::string name = folder_ + part_ + "/" + values_[parts[2]].text;
    const int64_t elements = values_[parts[4]].integer;
    const ZipEntry* record = zip_.find(name);
    if (record == nullptr) refuse("no record " + quote(name), "it in the archive");
    if (record->deflated) refuse("a compressed record " + quote(name), "a stored one");
    const int64_t shape[] = {elements, pairs ? 2 : 1};
    if (byte_count(type->second, shape) != record->size)
      refuse(fmt::format("{} bytes in the record {}", record->size, quote(name)),
             fmt::format("{} elements of {}", elements, name_of(type->second)));
    auto bytes = read_records_.find(name);
    if (bytes == read_records_.end())
      bytes =
          read_records_.emplace(name, script_ ? record->packed : zip_.read(*record).bytes).first;
    push({.kind = Kind::storage, .integer = static_cast<int64_t>(storages_.size())});
    storages_.push_back({type->second, type_name, static_cast<uint64_t>(elements), bytes->second});
  }

  std::vector<int64_t> integers(Ref tuple) const {
    std::vector<int64_t> numbers;
    if (values_[tuple].kind != Kind::tuple) refuse(kind_name(tuple), "a tuple of sizes");
    for (const Ref part : values_[tuple].parts) {
      if (values_[part].kind != Kind::integer || values_[part].integer < 0 ||
          numbers.size() == kMaxDimensions)
        refuse("something else in a tensor's sizes or strides",
               fmt::format("up to {} integers that are not negative", kMaxDimensions));
      numbers.push_back(values_[part].integer);
    }
    return numbers;
  }

  // (storage, offset, sizes, strides, requires_grad, hooks)
  void push_tensor(const std::vector<Ref>& arguments) {
    if (values_[arguments[0]].kind != Kind::storage || values_[arguments[1]].kind != Kind::integer)
      refuse("a tensor of something else", "of a storage");
    const Storage& storage = storages_[static_cast<size_t>(values_[arguments[0]].integer)];
    TorchTensor tensor = {storage.type, integers(arguments[2]), integers(arguments[3]),
                          values_[arguments[1]].integer, storage.bytes};
    if (!(script_ ? lies_within(tensor, storage.elements) : fits(tensor, storage.elements)))
      refuse(fmt::format("a tensor [{}] with strides [{}] at {} of a storage of {} elements",
                         fmt::join(tensor.shape, ", "), fmt::join(tensor.strides, ", "),
                         tensor.offset, storage.elements),
             script_ ? "one that lies within it"
                     : "one that lies within it, no two elements at one place");
    push({.kind = Kind::tensor, .integer = static_cast<int64_t>(tensors_.size())});
    tensors_.push_back(std::move(tensor));
    tensor_types_.push_back(storage.type_name);
  }

  // Elements may share places, as an expanded tensor's do, but not make much of little.
  static bool lies_within(const TorchTensor& tensor, uint64_t elements) {
    if (tensor.shape.size() != tensor.strides.size() || tensor.offset < 0) return false;
    const std::optional<uint64_t> count = element_count(tensor.shape);
    if (!count || *count > std::max(elements, kMaxExpanded)) return false;
    uint64_t reach = static_cast<uint64_t>(tensor.offset);
    for (size_t i = 0; i < tensor.shape.size() && *count > 0; ++i) {
      uint64_t further = 0;
      if (__builtin_mul_overflow(static_cast<uint64_t>(tensor.strides[i]),
                                 static_cast<uint64_t>(tensor.shape[i] - 1), &further) ||
          __builtin_add_overflow(reach, further, &reach))
        return false;
    }
    return *count == 0 ? reach <= elements : reach < elements;
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
      if (stride <= reach || __builtin_mul_overflow(stride, times, &further) ||
          __builtin_add_overflow(reach, further, &reach))
        return false;
    }
    return static_cast<uint64_t>(tensor.offset) < elements &&
           reach < elements - static_cast<uint64_t>(tensor.offset);
  }

  // Objects that it refers to first are added to `found`.
  ScriptObject outline(Ref ref, std::vector<Ref>& found, std::map<Ref, size_t>& index) const {
    const Value& value = values_[ref];
    ScriptObject object;
    object.type = value.text;
    std::replace(object.type.begin(), object.type.end(), ' ', '.');
    object.opaque = value.parts.size() != 1 || values_[value.parts[0]].kind != Kind::dictionary;
    if (object.opaque) return object;
    const std::vector<Ref>& state = values_[value.parts[0]].parts;
    for (size_t i = 0; i < state.size(); i += 2) {
      const std::string& name = values_[state[i]].text;
      const Value& member = values_[state[i + 1]];
      if (member.kind == Kind::tensor) {
        const auto tensor = static_cast<size_t>(member.integer);
        std::string_view type = tensor_types_[tensor];
        type.remove_prefix(type.find(' ') + 1);
        type.remove_suffix(std::string_view("Storage").size());
        object.tensors.push_back({name, std::string(type), tensors_[tensor].shape});
      } else if (member.kind == Kind::object) {
        const auto [known, is_new] = index.try_emplace(state[i + 1], found.size());
        if (is_new) found.push_back(state[i + 1]);
        object.members.push_back({name, known->second, object.tensors.size()});
      }
    }
    return object;
  }

  // LibTorch destroys a value and its parts within each other's destructors.
  void check_nesting() const {
    struct Step {
      Ref value;
      size_t next = 0;
    };
    enum State : uint8_t { kNew, kOpen, kDone };
    std::vector<State> states(values_.size(), kNew);
    std::vector<Step> way = {{stack_[0]}};
    std::vector<size_t> depths(values_.size(), 1);
    states[stack_[0]] = kOpen;
    while (!way.empty()) {
      const Ref value = way.back().value;
      if (way.back().next == values_[value].parts.size()) {
        states[value] = kDone;
        way.pop_back();
        if (way.empty()) break;
        size_t& above = depths[way.back().value];
        above = std::max(above, depths[value] + 1);
        if (above > kMaxScriptDepth)
          refuse(fmt::format("values nested deeper than {}", kMaxScriptDepth), "at most that");
        continue;
      }
      const Ref part = values_[value].parts[way.back().next++];
      if (states[part] == kOpen) refuse("a value within itself", "none");
      if (states[part] == kDone) {
        depths[value] = std::max(depths[value], depths[part] + 1);
      } else {
        states[part] = kOpen;
        way.push_back({part});
      }
    }
  }

  // The value without its tensors, which go to `archive` by their paths.
  Json flatten(Ref ref, const std::string& path, size_t depth, TorchArchive& archive) {
    if (depth > kMaxDepth)
      refuse(fmt::format("values nested deeper than {}", kMaxDepth), "at most that");
    if (++flattened_ > kMaxValues)
      refuse(fmt::format("more than {} values", kMaxValues), "at most that");
    const Value& value = values_[ref];
    text_bytes_ += path.size() + value.text.size();
    if (text_bytes_ > kMaxTextBytes)
      refuse(fmt::format("more than {} bytes of text, counted each time that they are referred to",
                         kMaxTextBytes),
             "at most that");
    const auto member = [&](const std::string& key) {
      return path.empty() ? key : path + '.' + key;
    };
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
        for (const Ref part : value.parts)
          list.push_back(flatten(part, member(std::to_string(list.size())), depth + 1, archive));
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
          if (!is_tensor && !object.emplace(name, std::move(part)).second)
            refuse("the key " + quote(name) + " again", "each once");
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
  std::string folder_, part_;
  bool script_;
  uint64_t at_ = 0;
  std::vector<Value> values_;
  std::vector<Storage> storages_;
  std::vector<TorchTensor> tensors_;
  std::vector<std::string> tensor_types_;  // of their storages
  std::map<std::string, std::span<const std::byte>> read_records_;
  std::vector<Ref> stack_;
  std::vector<size_t> marks_;  // sizes of the stack
  std::map<uint32_t, Ref> memo_;
  size_t flattened_ = 0, text_bytes_ = 0;
};

}  // namespace

TorchArchive unpickle(std::span<const std::byte> pickle, const ZipArchive& zip,
                      std::string folder) {
  return Unpickler(pickle, zip, std::move(folder), "data", Dialect::values).read();
}

namespace {

// What `use` makes of the reader of this pickle.
template <class Use>
auto with_script_pickle(const ZipArchive& zip, const std::string& folder, const std::string& name,
                        const std::string& part, Use&& use) {
  const ZipEntry* entry = zip.find(folder + name);
  if (entry == nullptr) fail("{}: found no {}, expected one", zip.source(), name);
  if (entry->size > kMaxScriptBytes)
    fail("{}: found {} of {} bytes, expected at most {}", zip.source(), quote(name), entry->size,
         kMaxScriptBytes);
  const ZipContent content = zip.read(*entry);
  return use(Unpickler(content.bytes, zip, folder, part, Dialect::script));
}

}  // namespace

void check_script_pickle(const ZipArchive& zip, const std::string& folder,
                         const std::string& part) {
  with_script_pickle(zip, folder, part + ".pkl", part, [](Unpickler&& pickle) { pickle.check(); });
}

void check_debug_pickle(const ZipArchive& zip, const std::string& folder, const std::string& name) {
  with_script_pickle(zip, folder, name, "debug", [](Unpickler&& pickle) { pickle.check(); });
}

std::vector<ScriptObject> read_script_objects(const ZipArchive& zip, const std::string& folder) {
  return with_script_pickle(zip, folder, "data.pkl", "data",
                            [](Unpickler&& pickle) { return pickle.objects(); });
}

}  // namespace vyx
