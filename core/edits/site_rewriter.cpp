#include "core/edits/site_rewriter.h"

#include <fmt/format.h>
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/hooks/taps.h"

namespace vyx {
namespace {

using c10::TypeKind;
using c10::TypePtr;
using torch::jit::Graph;
using torch::jit::Module;
using torch::jit::Node;
using torch::jit::Value;

bool holds_tensor(const TypePtr& type) {
  if (type->kind() == TypeKind::TensorType) return true;
  const auto parts = type->containedTypes();
  return type->kind() != TypeKind::ClassType &&
         std::any_of(parts.begin(), parts.end(), holds_tensor);
}

class SiteRewriter {
 public:
  SiteRewriter(Module object, const Site& site, const std::string& method)
      : object_(std::move(object)), site_(site), method_(method) {}

  void rewrite(Graph& graph) {
    if (site_.port == Port::output) {
      const torch::jit::WithInsertPoint end(graph.return_node());
      graph.return_node()->replaceInput(
          0, edited(graph, graph.outputs().at(0), /*tensor_follows=*/false));
    } else {
      const torch::jit::WithInsertPoint start(*graph.nodes().begin());
      const auto arguments = graph.inputs().slice(1);  // without self
      const size_t chosen = first_with_tensor(arguments, "()");
      Value* argument = arguments[chosen];
      Value* replaced = edited(graph, argument, any_tensor_after(arguments, chosen));
      argument->replaceAllUsesAfterNodeWith(replaced->node(), replaced);
    }
    graph.lint();
  }

 private:
  /// `value` with its activation edited: what with_activation() does, decided by the types.
  Value* edited(Graph& graph, Value* value, bool tensor_follows) {
    const TypePtr type = c10::unshapedType(value->type());
    if (type->kind() == TypeKind::TensorType) return call(graph, method_, value, type);
    if (const auto tuple = type->cast<c10::TupleType>()) {
      Node* parts = graph.insertNode(graph.createTupleUnpack(value));
      std::vector<Value*> elements(parts->outputs().begin(), parts->outputs().end());
      const size_t chosen = first_with_tensor(elements, type->repr_str());
      elements[chosen] =
          edited(graph, elements[chosen], tensor_follows || any_tensor_after(elements, chosen));
      return graph.insertNode(graph.createTuple(elements, tuple->schema() ? tuple : nullptr))
          ->output();
    }
    return call(graph, container_method(type, tensor_follows), value, type);
  }

  /// The name of a method that edits the first tensor of a container that may be empty.
  std::string container_method(const TypePtr& type, bool tensor_follows) {
    const auto parts = type->containedTypes();
    const char* suffix = nullptr;
    std::string body;
    if (!holds_tensor(type)) {
      refuse(type, "which holds no tensor");
    } else if (parts.empty() || parts[parts.size() - 1]->kind() != TypeKind::TensorType) {
      refuse(type, "whose tensors lie too deep");
    } else if (tensor_follows) {
      refuse(type, "before another tensor, so that it depends on the run which one is first");
    }
    switch (type->kind()) {
      case TypeKind::OptionalType:
        suffix = "_optional";
        body = "    if value is not None:\n        return self.{0}(value)\n    return value\n";
        break;
      case TypeKind::ListType:
        suffix = "_list";
        body =
            "    if len(value) == 0:\n        return value\n    return [self.{0}(value[0])] + "
            "value[1:]\n";
        break;
      case TypeKind::DictType:
        suffix = "_dict";
        body =
            "    result = value.copy()\n"
            "    keys = list(value.keys())\n"
            "    if len(keys) > 0:\n"
            "        result[keys[0]] = self.{0}(value[keys[0]])\n"
            "    return result\n";
        break;
      default:
        refuse(type, "of which bake() knows no first tensor");
    }
    const std::string name = method_ + suffix;
    if (!object_.find_method(name)) {
      const std::string annotation = type->annotation_str();
      object_.define(fmt::format("def {}(self, value: {}) -> {}:\n", name, annotation, annotation) +
                     fmt::format(fmt::runtime(body), method_));
    }
    return name;
  }

  Value* call(Graph& graph, const std::string& method, Value* argument,
              const TypePtr& result) const {
    Node* node =
        graph.insertNode(graph.create(c10::prim::CallMethod, {graph.inputs().at(0), argument}));
    node->s_(c10::attr::name, method);
    return node->output()->setType(result);
  }

  template <class Values>
  size_t first_with_tensor(const Values& values, const std::string& what) const {
    for (size_t i = 0; i < values.size(); ++i) {
      if (holds_tensor(values[i]->type())) return i;
    }
    fail("{}: found a value of type {}, which holds no tensor to edit", site_.name(), what);
  }

  template <class Values>
  static bool any_tensor_after(const Values& values, size_t index) {
    return std::any_of(values.begin() + static_cast<std::ptrdiff_t>(index) + 1, values.end(),
                       [](const Value* value) { return holds_tensor(value->type()); });
  }

  [[noreturn]] void refuse(const TypePtr& type, const char* why) const {
    fail("{}: found a value of type {}, {}; hook the site instead of baking it, or choose another",
         site_.name(), type->repr_str(), why);
  }

  Module object_;
  const Site& site_;
  const std::string& method_;
};

}  // namespace

void pass_through(Module object, const Site& site, const std::string& method) {
  SiteRewriter rewriter(object, site, method);
  for (torch::jit::Function* each : object.type()->methods()) {
    if (is_forward(each->name())) rewriter.rewrite(*torch::jit::toGraphFunction(*each).graph());
  }
}

}  // namespace vyx
