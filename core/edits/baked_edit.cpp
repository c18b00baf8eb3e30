#include "core/edits/baked_edit.h"

#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include "core/edits/edit_kernel.h"
#include "core/hooks/activation.h"

namespace vyx {
namespace {

using torch::jit::Module;

// Names in the baked module. The coefficient is an object's own; buffers and methods are numbered
// by edit.
constexpr const char* kCoefficient = "_vyx_coefficient";
constexpr const char* kCoefficientSetter = "_vyx_set_coefficient";
std::string numbered(const std::string& name, size_t edit) {
  return fmt::format("_vyx_{}_{}", name, edit);
}

Script script_of(size_t edit) {
  return Script([edit](const char* name) { return numbered(name, edit); });
}

/// Gives `object` what `script` refers to.
void add_buffers(Module& object, const Script& script, bool copied) {
  for (const auto& [name, tensor] : script.attributes()) {
    if (!object.hasattr(name)) object.register_buffer(name, copied ? tensor.clone() : tensor);
  }
}

}  // namespace

std::array<std::string, 3> readout_at(Script& run, const Readout& readout, const std::string& x) {
  const std::array<std::string, 3> found{run.name(), run.name(), run.name()};
  run.line(fmt::format("{} = {}.forward({})", fmt::join(found, ", "),
                       run.submodule("readout", readout.module), x));
  return found;
}

std::string add_coefficient(Module object, double coefficient) {
  object.register_attribute(kCoefficient, c10::FloatType::get(), coefficient);
  object.define(fmt::format("def {}(self, c: float) -> None:\n    self.{} = c\n",
                            kCoefficientSetter, kCoefficient));
  return kCoefficientSetter;
}

std::string add_edit(Module object, const Edit& edit, size_t number, bool adjustable) {
  const std::string name = numbered("edit", number);
  const Gate all{.constant = 1, .linear = 1, .rectified = 1, .step = 1};
  Script script = script_of(number);
  script.line(
      fmt::format("assert x.dim() <= {0}, \"the activation has \" + str(x.dim()) + \" dimensions, "
                  "expected at most {0}: of more it is not known which one holds the features\"",
                  kMostDimensions));
  script.line(fmt::format("c = self.{}", kCoefficient));
  const std::string y = edited(script, edit.table(), edit.readout(),
                               adjustable ? all : edit.table().uses, "x", std::string("c"));
  script.line("return " + y);
  add_buffers(object, script, adjustable);
  for (const auto& [path, module] : script.submodules()) object.register_module(path, module);
  object.define(fmt::format("def {}(self, x: Tensor) -> Tensor:\n{}", name, script.body()));
  return name;
}

std::string add_gate_setter(Module object, const Edit& edit, size_t number) {
  // A term's place is a column of `gates`, or −1 − summand of `constant`.
  constexpr int64_t kNone = 1'000'000'000;  // of a term without a gate
  const EditTable& table = edit.table();
  std::vector<int64_t> places(edit.terms().size(), kNone);
  const auto place = [&](const at::Tensor& terms, auto place_of) {  // [n] int64
    if (!terms.defined()) return;
    for (int64_t i = 0; i < terms.size(0); ++i)
      places[static_cast<size_t>(terms[i].item<int64_t>())] = place_of(i);
  };
  place(table.reading_terms, [](int64_t i) { return i; });
  place(table.constant_terms, [](int64_t i) { return -1 - i; });

  Script script = script_of(number);
  script.line(fmt::format("place = [{}][term]", fmt::join(places, ", ")));
  script.line(fmt::format("assert place < {}, \"term \" + str(term) + \" has no gate\"", kNone));
  if (table.gates.defined()) {
    script.line("if place >= 0:");
    script.line(fmt::format("    torch.select({}, 1, place).copy_(torch.tensor(gate))",
                            script.attribute("gates", table.gates)));
  }
  if (table.constant.defined()) {
    script.line(fmt::format("if place < 0:"));
    script.line(fmt::format("    {}[-1 - place] = gate[0]",
                            script.attribute("summand_gates", table.summand_gates)));
    const std::string sum = constant_sum(script, table);
    script.line(fmt::format("{}.copy_({})", script.attribute("constant", table.constant), sum));
  }
  add_buffers(object, script, /*copied=*/true);
  const std::string name = numbered("set_gate", number);
  object.define(
      fmt::format("def {}(self, term: int, gate: List[float]) -> None:\n{}", name, script.body()));
  return name;
}

}  // namespace vyx
