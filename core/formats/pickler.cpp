#include "core/formats/pickler.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <iterator>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/formats/torch_pickle.h"

namespace vyx {
namespace {

using namespace torch_pickle;

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
        std::find_if(std::begin(kStorages), std::end(kStorages),
                     [&](const auto& storage) { return storage.second == tensor.type; });
    if (type == std::end(kStorages))
      fail("a tensor of {} cannot be written for torch.load", name_of(tensor.type));
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

}  // namespace

std::string pickle(const TorchArchive& archive) {
  return Pickler().pickle(archive);
}

}  // namespace vyx
