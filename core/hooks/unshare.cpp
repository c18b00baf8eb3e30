#include "core/hooks/unshare.h"

#include <torch/csrc/jit/api/compilation_unit.h>
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/ir/ir.h>

#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "core/base/error.h"

namespace vyx {
namespace {

using c10::ClassTypePtr;
using c10::TypePtr;
using torch::jit::Block;
using torch::jit::Function;
using torch::jit::Graph;
using torch::jit::Module;
using torch::jit::Node;
using torch::jit::Value;

/// The class of a module, or nullptr for any other type (an interface of modules among them).
ClassTypePtr module_class(const TypePtr& type) {
  auto cls = type->cast<c10::ClassType>();
  return cls && cls->is_module() ? cls : nullptr;
}

class Unsharing {
 public:
  explicit Unsharing(std::shared_ptr<torch::jit::CompilationUnit> unit) : unit_(std::move(unit)) {}

  Module copy(const Module& root) {
    Module result = copy_object(root);
    // Methods come last: a traced method may take a module from anywhere in the tree.
    for (const auto& [from, to] : copies_) {
      for (const Function* method : from.type()->methods())
        to.type()->addMethod(copy_function(*method, to));
      for (const Function* hook : from.type()->getForwardPreHooks())
        to.type()->addForwardPreHook(copy_function(*hook, to));
      for (const Function* hook : from.type()->getForwardHooks())
        to.type()->addForwardHook(copy_function(*hook, to));
    }
    return result;
  }

 private:
  Module copy_object(const Module& from) {
    if (const auto known = copy_of_.find(from._ivalue().get()); known != copy_of_.end())
      return Module(known->second);
    const ClassTypePtr cls = from.type();
    Module to(*cls->name(), unit_, /*shouldMangle=*/true);
    copy_of_.emplace(from._ivalue().get(), to._ivalue());
    classes_of_[cls.get()].push_back(to.type());
    for (size_t i = 0; i < cls->numAttributes(); ++i) {
      const std::string& name = cls->getAttributeName(i);
      const TypePtr& type = cls->getAttribute(i);
      const c10::IValue& value = from._ivalue()->getSlot(i);
      if (type->is_module()) {
        const Module child = copy_object(Module(value.toObject()));
        to.type()->addAttribute(name, module_class(type) ? TypePtr(child.type()) : type);
        to._ivalue()->setAttr(name, child._ivalue());
      } else {
        to.register_attribute(name, type, value, cls->is_parameter(i), cls->is_buffer(i));
      }
    }
    for (size_t i = 0; i < cls->numConstants(); ++i) {
      to.type()->addConstant(cls->getConstantName(i), cls->getConstant(i));
    }
    copies_.emplace_back(from, to);
    return to;
  }

  Function* copy_function(const Function& from, const Module& self) {
    const auto graph = torch::jit::toGraphFunction(from).graph()->copy();
    graph->inputs().at(0)->setType(self.type());
    for (Value* input : graph->inputs().slice(1)) input->setType(renewed(input->type()));
    renew_types(*graph->block());

    const c10::FunctionSchema& schema = from.getSchema();
    std::vector<c10::Argument> arguments;
    for (const c10::Argument& argument : schema.arguments()) {
      arguments.push_back(argument.cloneWithType(arguments.empty() ? TypePtr(self.type())
                                                                   : renewed(argument.type())));
    }
    Function* to =
        unit_->create_function(c10::QualifiedName(*self.type()->name(), from.name()), graph);
    to->setSchema(schema.cloneWithArguments(std::move(arguments)));
    return to;
  }

  /// Gives values that are modules their new classes. They all follow from self, which has its
  /// new class already.
  void renew_types(Block& block) {
    for (Node* node : block.nodes()) {
      const bool from_module =
          node->kind() == c10::prim::GetAttr && module_class(node->input()->type());
      for (Value* output : node->outputs()) {
        if (!module_class(output->type())) continue;
        output->setType(
            from_module
                ? module_class(node->input()->type())->getAttribute(node->s(c10::attr::name))
                : renewed(output->type()));
      }
      for (Block* inner : node->blocks()) renew_types(*inner);
      if (node->hasAttribute(c10::attr::Subgraph)) {  // what a fork runs
        Graph& subgraph = *node->g(c10::attr::Subgraph);
        for (size_t i = 0; i < subgraph.inputs().size(); ++i)
          subgraph.inputs()[i]->setType(node->input(i)->type());
        renew_types(*subgraph.block());
      }
    }
  }

  /// The new class of a module that comes as an argument: known when one object alone has the
  /// class, as in traced modules.
  TypePtr renewed(const TypePtr& type) const {
    const auto found = classes_of_.find(type.get());
    if (found == classes_of_.end()) return type;
    if (found->second.size() > 1) {
      fail(
          "{}: a method takes a module of this class as an argument, and {} submodules have it; "
          "trace the module, or give each a class of its own",
          type->repr_str(), found->second.size());
    }
    return found->second.front();
  }

  std::shared_ptr<torch::jit::CompilationUnit> unit_;
  std::unordered_map<const c10::ivalue::Object*, torch::jit::ModulePtr> copy_of_;
  std::unordered_map<const c10::Type*, std::vector<ClassTypePtr>> classes_of_;
  std::vector<std::pair<Module, Module>> copies_;
};

void append_paths(const Module& module, const std::string& path, std::vector<ModulePath>& paths) {
  paths.push_back({path, module});
  for (const auto& child : module.named_children()) {
    append_paths(child.value, path.empty() ? child.name : path + "." + child.name, paths);
  }
}

}  // namespace

Module unshare(const Module& module, std::shared_ptr<torch::jit::CompilationUnit> unit) {
  return Unsharing(std::move(unit)).copy(module);
}

std::vector<ModulePath> module_paths(const Module& root) {
  std::vector<ModulePath> paths;
  append_paths(root, "", paths);
  return paths;
}

}  // namespace vyx
