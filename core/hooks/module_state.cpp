#include "core/hooks/module_state.h"

#include <ATen/Functions.h>

#include <algorithm>
#include <unordered_set>

#include "core/hooks/unshare.h"

namespace vyx {
namespace {

constexpr int64_t kCompared = 65536;  // values of a tensor

bool is_data(const c10::IValue& value) {
  if (value.isTuple()) {
    const auto& elements = value.toTupleRef().elements();
    return std::all_of(elements.begin(), elements.end(), is_data);
  }
  if (value.isList()) {
    const auto elements = value.toListRef();
    return std::all_of(elements.begin(), elements.end(), is_data);
  }
  if (value.isGenericDict()) {
    const auto dict = value.toGenericDict();
    return std::all_of(dict.begin(), dict.end(),
                       [](const auto& entry) { return is_data(entry.value()); });
  }
  return value.isTensor() || value.isScalar() || value.isBool() || value.isString() ||
         value.isNone();
}

uint32_t version_of(const c10::IValue& value) {
  return value.isTensor() && value.toTensor().defined() ? value.toTensor()._version() : 0;
}

bool same_tensor(const at::Tensor& a, const at::Tensor& b) {
  if (!a.defined() || !b.defined()) return a.defined() == b.defined();
  return a.sizes() == b.sizes() && a.scalar_type() == b.scalar_type() && at::equal(a, b);
}

bool same(const c10::IValue& a, const c10::IValue& b) {
  if (a.tagKind() != b.tagKind()) return false;
  if (a.isTensor()) return same_tensor(a.toTensor(), b.toTensor());
  if (a.isTuple() || a.isList()) {
    const auto elements_of = [](const c10::IValue& value) {
      return value.isTuple() ? value.toTupleRef().elements().vec() : value.toListRef().vec();
    };
    const auto left = elements_of(a), right = elements_of(b);
    return std::equal(left.begin(), left.end(), right.begin(), right.end(), same);
  }
  if (a.isGenericDict()) {
    const auto left = a.toGenericDict(), right = b.toGenericDict();
    return left.size() == right.size() &&
           std::all_of(left.begin(), left.end(), [&](const auto& entry) {
             const auto found = right.find(entry.key());
             return found != right.end() && same(entry.value(), found->value());
           });
  }
  return a == b;
}

}  // namespace

ModuleState::ModuleState(const torch::jit::Module& module) {
  std::unordered_set<const c10::ivalue::Object*> seen;
  c10::IValue::HashIdentityIValueMap copies;  // what two attributes share, their copies share
  for (const auto& [path, object] : module_paths(module)) {
    const auto pointer = object._ivalue();
    if (!seen.insert(pointer.get()).second) continue;
    const c10::ClassType& cls = *object.type();
    for (size_t i = 0; i < cls.numAttributes(); ++i) {
      const c10::IValue& value = pointer->getSlot(i);
      if (!cls.is_parameter(i) && !value.isModule() && is_data(value))
        slots_.push_back({.object = pointer, .index = i, .initial = value.deepcopy(copies)});
    }
  }
  restore();
}

void ModuleState::restore() {
  c10::IValue::HashIdentityIValueMap copies;
  for (Slot& slot : slots_) {
    slot.given = slot.initial.deepcopy(copies);
    slot.version = version_of(slot.given);
    slot.object->setSlot(slot.index, slot.given);
  }
}

bool ModuleState::changed() const {
  return std::any_of(slots_.begin(), slots_.end(), [](const Slot& slot) {
    const c10::IValue& now = slot.object->getSlot(slot.index);
    if (now.isTensor() && slot.given.isTensor() && now.is(slot.given)) {
      const at::Tensor& tensor = now.toTensor();
      if (!tensor.defined()) return false;
      if (tensor._version() == slot.version && tensor.numel() > kCompared) return false;
    }
    return !same(now, slot.initial);
  });
}

}  // namespace vyx
