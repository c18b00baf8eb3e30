#include "core/hooks/activation.h"

#include <fmt/ostream.h>

#include <utility>
#include <vector>

#include "core/base/error.h"

namespace vyx {
namespace {

/// A copy of `value` in which the first tensor is `activation`, or nullopt when it holds no tensor.
std::optional<c10::IValue> replace_first(const c10::IValue& value, const at::Tensor& activation) {
  if (value.isTensor())
    return value.toTensor().defined() ? std::optional<c10::IValue>(activation) : std::nullopt;
  if (value.isTuple()) {
    const c10::ivalue::Tuple& tuple = value.toTupleRef();
    for (size_t i = 0; i < tuple.size(); ++i) {
      if (auto member = replace_first(tuple.elements()[i], activation)) {
        std::vector<c10::IValue> elements = tuple.elements().vec();
        elements[i] = std::move(*member);
        const c10::TupleTypePtr type = tuple.type();
        return type->schema() ? c10::ivalue::Tuple::createNamed(std::move(elements),
                                                                type)  // a named tuple stays one
                              : c10::ivalue::Tuple::create(std::move(elements));
      }
    }
  } else if (value.isList()) {
    const c10::List<c10::IValue> list = value.toList();
    for (size_t i = 0; i < list.size(); ++i) {
      if (auto member = replace_first(list.get(i), activation)) {
        c10::List<c10::IValue> copy = list.copy();
        copy.set(i, std::move(*member));
        return copy;
      }
    }
  } else if (value.isGenericDict()) {
    const c10::Dict<c10::IValue, c10::IValue> dict = value.toGenericDict();
    for (const auto& entry : dict) {
      if (auto member = replace_first(entry.value(), activation)) {
        c10::Dict<c10::IValue, c10::IValue> copy = dict.copy();
        copy.insert_or_assign(entry.key(), std::move(*member));
        return copy;
      }
    }
  }
  return std::nullopt;
}

/// Appends the path of each tensor in `value`, depth first.
void append_places(const c10::IValue& value, const std::string& path,
                   std::vector<std::string>& places) {
  if (value.isTensor()) {
    if (value.toTensor().defined()) places.push_back(path);
  } else if (value.isTuple() || value.isList()) {
    const std::vector<c10::IValue> elements =
        value.isTuple() ? value.toTupleRef().elements().vec() : value.toListRef().vec();
    for (size_t i = 0; i < elements.size(); ++i)
      append_places(elements[i], fmt::format("{}[{}]", path, i), places);
  } else if (value.isGenericDict()) {
    for (const auto& entry : value.toGenericDict())
      append_places(entry.value(),
                    entry.key().isString()
                        ? fmt::format("{}['{}']", path, entry.key().toStringRef())
                        : fmt::format("{}[{}]", path, fmt::streamed(entry.key())),
                    places);
  }
}

}  // namespace

std::string place_of_activation(const c10::IValue& value) {
  std::vector<std::string> places;
  append_places(value, "", places);
  return places.size() > 1 ? places.front() : "";
}

std::optional<at::Tensor> activation_of(const c10::IValue& value) {
  if (value.isTensor())
    return value.toTensor().defined() ? std::optional(value.toTensor()) : std::nullopt;
  if (value.isTuple()) {
    for (const c10::IValue& element : value.toTupleRef().elements()) {
      if (auto activation = activation_of(element)) return activation;
    }
  } else if (value.isList()) {
    for (const c10::IValue& element : value.toListRef()) {
      if (auto activation = activation_of(element)) return activation;
    }
  } else if (value.isGenericDict()) {
    for (const auto& entry : value.toGenericDict()) {
      if (auto activation = activation_of(entry.value())) return activation;
    }
  }
  return std::nullopt;
}

c10::IValue with_activation(const c10::IValue& value, at::Tensor activation) {
  auto replaced = replace_first(value, activation);
  if (!replaced) fail("found {}, expected a value that holds a tensor", value.tagKind());
  return std::move(*replaced);
}

}  // namespace vyx
