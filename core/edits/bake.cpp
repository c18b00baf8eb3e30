#include "core/edits/bake.h"

#include <ATen/ATen.h>
#include <fmt/ranges.h>
#include <torch/csrc/jit/api/compilation_unit.h>
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <set>
#include <sstream>
#include <utility>

#include "core/base/error.h"
#include "core/base/nearest.h"
#include "core/hooks/script_error.h"
#include "core/hooks/taps.h"
#include "core/hooks/unshare.h"

namespace vyx {
namespace {

using c10::TypeKind;
using c10::TypePtr;
using torch::jit::Graph;
using torch::jit::Module;
using torch::jit::Node;
using torch::jit::Value;

constexpr const char* kSetter = "set_coefficient";
constexpr const char* kGateSetter = "set_gate";

// Names in the baked module. The coefficient is a site's own; buffers and methods are numbered by
// edit.
constexpr const char* kCoefficient = "_vyx_coefficient";
constexpr const char* kSiteSetter = "_vyx_set_coefficient";
std::string numbered(const char* name, size_t edit) {
  return fmt::format("_vyx_{}_{}", name, edit);
}

/// The method x → y of an edit: the operators of Edit::apply_scaled, one by one, so that the
/// results are bit-equal. An adjustable edit computes all parts of its gates.
std::string edit_source(const Edit& edit, size_t number, bool adjustable) {
  const Edit::Table& table = edit.table();
  const auto buffer = [&](const char* name) { return "self." + numbered(name, number); };
  std::ostringstream out;
  out << "def " << numbered("edit", number) << "(self, x: Tensor) -> Tensor:\n"
      << "    c = self." << kCoefficient << "\n"
      << "    if c == 0.0:\n"
      << "        return x\n";
  const bool reads = table.gates.defined();
  std::vector<std::string> parts;  // of v
  if (reads) out << "    gates = " << buffer("gates") << "\n";
  if (edit.readout()) {
    out << "    read, spread, base = " << buffer("readout") << ".forward(x)\n";
    if (reads) {
      out << "    rows = torch.index_select(read, -1, " << buffer("columns") << ") + "
          << buffer("biases") << "\n";
    }
  } else if (reads) {
    out << "    rows = torch.linear(x.to(gates.dtype), " << buffer("readers") << ", "
        << buffer("biases") << ")\n";
  }
  if (reads) {
    const int64_t rows = table.biases.size(0), reading = table.gates.size(1);
    out << "    z = "
        << (rows == reading ? "rows" : fmt::format("torch.narrow(rows, -1, 0, {})", reading))
        << "\n";
    std::vector<std::string> gate;
    if (adjustable || table.uses.linear != 0) gate.push_back("z * gates[1]");
    if (adjustable || table.uses.rectified != 0) gate.push_back("torch.relu(z) * gates[2]");
    if (adjustable || table.uses.step != 0)
      gate.push_back("torch.gt(z, 0).to(gates.dtype) * gates[3]");
    if (adjustable || table.uses.constant != 0) gate.push_back("gates[0]");
    out << "    gate = " << fmt::format("{}", fmt::join(gate, " + ")) << "\n";
    if (table.conditions.defined()) {
      out << "    opener = torch.index_select(rows, -1, " << buffer("conditions") << ")\n"
          << "    gate = gate * torch.gt(opener, " << buffer("floors") << ").to(gates.dtype)\n";
    }
    parts.push_back(fmt::format("torch.matmul(gate, {})", buffer("writers")));
  }
  if (table.constant.defined()) parts.push_back(buffer("constant"));
  if (parts.empty() && !edit.readout()) {
    out << "    return x\n";
    return out.str();
  }
  out << "    v = "
      << (parts.empty() ? "torch.zeros_like(x)" : fmt::format("{}", fmt::join(parts, " + ")))
      << "\n";
  if (edit.readout()) {
    out << "    if spread is not None:\n"
        << "        v = v * spread\n"
        << "    if base is not None:\n"
        << "        v = " << (parts.empty() ? "base" : "v + base") << "\n";
  }
  out << "    return x + (v * c).to(x.dtype)\n";
  return out.str();
}

/// The method that gives a term another gate: a column of `gates`, or a summand of `constant`.
std::string gate_setter_source(const Edit& edit, size_t number) {
  const Edit::Table& table = edit.table();
  constexpr int64_t kNone = 1'000'000'000;                  // of a term without a gate
  std::vector<int64_t> places(edit.terms().size(), kNone);  // a column, or −1 − summand
  for (size_t i = 0; i < table.reading_terms.size(); ++i)
    places[static_cast<size_t>(table.reading_terms[i])] = static_cast<int64_t>(i);
  for (size_t i = 0; i < table.constant_terms.size(); ++i)
    places[static_cast<size_t>(table.constant_terms[i])] = -1 - static_cast<int64_t>(i);
  std::ostringstream out;
  out << "def " << numbered(kGateSetter, number)
      << "(self, term: int, gate: List[float]) -> None:\n"
      << fmt::format("    place = [{}][term]\n", fmt::join(places, ", "))
      << fmt::format("    assert place < {}, \"term \" + str(term) + \" has no gate\"\n", kNone);
  if (table.gates.defined()) {
    out << "    if place >= 0:\n"
        << fmt::format("        torch.select(self.{}, 1, place).copy_(torch.tensor(gate))\n",
                       numbered("gates", number));
  }
  if (table.constant.defined()) {
    out << "    if place < 0:\n"
        << fmt::format("        self.{0}[-1 - place] = gate[0]\n",
                       numbered("summand_gates", number))
        << fmt::format("        summands = self.{} * torch.unsqueeze(self.{}, 1)\n",
                       numbered("summands", number), numbered("summand_gates", number))
        << fmt::format("        self.{}.copy_(torch.sum(summands, [0]))\n",
                       numbered("constant", number));
  }
  return out.str();
}

bool holds_tensor(const TypePtr& type) {
  if (type->kind() == TypeKind::TensorType) return true;
  const auto parts = type->containedTypes();
  return type->kind() != TypeKind::ClassType &&
         std::any_of(parts.begin(), parts.end(), holds_tensor);
}

/// Writes one edit into the graphs of one object.
class SiteBaker {
 public:
  SiteBaker(Module object, const SiteEdit& edit, size_t number, bool adjustable)
      : object_(std::move(object)), site_(edit.site), method_(numbered("edit", number)) {
    const Edit::Table& table = edit.edit.table();
    const auto buffer = [&](const char* name, const at::Tensor& tensor) {
      if (tensor.defined())
        object_.register_buffer(numbered(name, number), adjustable ? tensor.clone() : tensor);
    };
    buffer("constant", table.constant);
    buffer("readers", table.readers);
    buffer("columns", table.columns);
    buffer("biases", table.biases);
    buffer("gates", table.gates);
    buffer("conditions", table.conditions);
    buffer("floors", table.floors);
    buffer("writers", table.writers);
    if (edit.edit.readout())
      object_.register_module(numbered("readout", number), edit.edit.readout()->module);
    object_.define(edit_source(edit.edit, number, adjustable));
    if (!adjustable) return;
    std::vector<at::Tensor> writers;
    std::vector<double> gates;
    for (const int64_t k : table.constant_terms) {
      const Term& term = edit.edit.terms()[static_cast<size_t>(k)];
      writers.push_back(term.writer.detach().to(at::kDouble));
      gates.push_back(term.gate.constant);
    }
    if (!writers.empty()) {
      buffer("summands", at::stack(writers));  // float64, as the edit sums them
      buffer("summand_gates", at::tensor(gates, at::kDouble).to(writers.front().device()));
    }
    object_.define(gate_setter_source(edit.edit, number));
  }

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
  std::string method_;
};

/// TorchScript for the submodule at `path`; its names need not be identifiers ("0" in a list).
/// Throws Error for a submodule that is reached through an interface, on which nothing can be
/// called but the interface's methods.
std::string expression_of(const Module& root, const Site& site) {
  std::string expression = "self";
  Module parent = root;
  std::istringstream names(site.path);
  for (std::string name; std::getline(names, name, '.');) {
    if (parent.type()->getAttribute(name)->kind() == TypeKind::InterfaceType) {
      fail(
          "{}: '{}' is declared as an interface, through which bake() cannot set a coefficient; "
          "hook the site instead",
          site.name(), name);
    }
    expression = fmt::format("getattr({}, \"{}\")", expression, name);
    parent = parent.attr(name).toModule();
  }
  return expression;
}

Module bake_edits(const Module& module, const std::vector<SiteEdit>& edits, double coefficient,
                  const std::vector<size_t>& adjustable) {
  Module baked = unshare(module, module.type()->compilation_unit());
  std::vector<std::string> names;
  std::map<std::string, Module> object_at;
  for (auto& [path, object] : module_paths(baked)) {
    const auto methods = object.type()->methods();
    if (std::none_of(methods.begin(), methods.end(),
                     [](const auto* method) { return is_forward(method->name()); })) {
      continue;
    }
    for (const Port port : {Port::input, Port::output}) names.push_back(Site{path, port}.name());
    object_at.emplace(path, object);
  }

  std::string setter = fmt::format("def {}(self, c: float) -> None:\n", kSetter), gate_setter;
  std::set<const c10::ivalue::Object*> prepared;
  for (size_t k = 0; k < edits.size(); ++k) {
    const Site& site = edits[k].site;
    const auto found = object_at.find(site.path);
    if (found == object_at.end()) {
      fail("no site {}; the nearest are {}", site.name(),
           fmt::join(nearest(site.name(), names), ", "));
    }
    Module object = found->second;
    if (prepared.insert(object._ivalue().get()).second) {
      object.register_attribute(kCoefficient, c10::FloatType::get(), coefficient);
      object.define(fmt::format("def {}(self, c: float) -> None:\n    self.{} = c\n", kSiteSetter,
                                kCoefficient));
      setter += fmt::format("    {}.{}(c)\n", expression_of(baked, site), kSiteSetter);
    }
    const bool gates = std::find(adjustable.begin(), adjustable.end(), k) != adjustable.end();
    SiteBaker baker(object, edits[k], k, gates);
    if (gates) {
      gate_setter += fmt::format("    if edit == {}:\n        {}.{}(term, gate)\n", k,
                                 expression_of(baked, site), numbered(kGateSetter, k));
    }
    for (torch::jit::Function* method : object.type()->methods()) {
      if (is_forward(method->name())) baker.rewrite(*torch::jit::toGraphFunction(*method).graph());
    }
  }
  baked.define(setter);
  if (!gate_setter.empty()) {
    baked.define(fmt::format("def {}(self, edit: int, term: int, gate: List[float]) -> None:\n{}",
                             kGateSetter, gate_setter));
  }
  return baked;
}

}  // namespace

Module bake(const Module& module, const std::vector<SiteEdit>& edits, double coefficient,
            const std::vector<size_t>& adjustable) {
  const std::string name = module.type()->name()->name();
  if (edits.empty()) fail("{}: found no edit to bake", name);
  if (!std::isfinite(coefficient))
    fail("{}: found coefficient {}, expected a finite one", name, coefficient);
  if (module.find_method(kSetter)) {
    fail("{}: it has a method {} already; bake the module that it was made from", name, kSetter);
  }
  try {
    return bake_edits(module, edits, coefficient, adjustable);
  } catch (const Error& error) {
    fail("{}: {}", name, error.what());
  } catch (const std::exception& error) {
    fail("{}: the edit could not be written into the module: {}", name, reason_of(error));
  }
}

}  // namespace vyx
