// Small TorchScript modules, built in the process. Weights come from a fixed seed.
#pragma once
#include "tests/torch_support.h"
// (torch_support.h comes first: it keeps c10's CHECK out of doctest's way)
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/ir/ir.h>

#include <string>
#include <utility>
#include <vector>

#include "core/edits/edit.h"

namespace vyx::test {

using torch::jit::Module;

constexpr int64_t kWidth = 4;

inline at::Tensor random(at::IntArrayRef shape, uint64_t seed) {
  return at::randn(shape, at::make_generator<at::CPUGeneratorImpl>(seed), at::TensorOptions());
}

inline bool same(const at::Tensor& a, const at::Tensor& b) {
  return a.dtype() == b.dtype() && at::equal(a, b);
}

/// x [.., 4] → x Wᵀ + b [.., 4].
inline Module linear(uint64_t seed) {
  Module module("Linear");
  module.register_parameter("weight", random({kWidth, kWidth}, seed) / 2, false);
  module.register_parameter("bias", random({kWidth}, seed + 1000), false);
  module.define(
      "def forward(self, x: Tensor) -> Tensor:\n    return torch.linear(x, self.weight, "
      "self.bias)\n");
  return module;
}

/// A method as a compiled hook is: a function that is none of its class's methods.
inline torch::jit::Function* hook_of(const Module& module, const std::string& name) {
  torch::jit::Function* hook = &module.get_method(name).function();
  module.type()->unsafeRemoveMethod(name);
  return hook;
}

/// A root with children by name, and a method forward of that source.
inline Module parent(const std::string& name,
                     const std::vector<std::pair<std::string, Module>>& children,
                     const std::string& source) {
  Module module(name);
  for (const auto& [child_name, child] : children) module.register_module(child_name, child);
  module.define(source);
  return module;
}

/// x + down(relu(up(x))).
inline Module block(uint64_t seed) {
  return parent("Block", {{"up", linear(seed)}, {"down", linear(seed + 1)}},
                "def forward(self, x: Tensor) -> Tensor:\n"
                "    return x + self.down.forward(torch.relu(self.up.forward(x)))\n");
}

/// Three blocks in `layers`, objects of one class, and a `head`: sites such as layers.1.down.
inline Module stack() {
  const Module first = block(1);
  Module layers("Layers");
  std::string source = "def forward(self, x: Tensor) -> Tensor:\n";
  for (int i = 0; i < 3; ++i) {
    const Module layer = first.deepcopy();  // deepcopy() shares the class
    for (at::Tensor parameter : layer.parameters()) parameter.mul_(1 + 0.25 * i);
    layers.register_module(std::to_string(i), layer);
    source += "    x = getattr(self.layers, \"" + std::to_string(i) + "\").forward(x)\n";
  }
  return parent("Stack", {{"layers", layers}, {"head", linear(9)}},
                source + "    return self.head.forward(x)\n");
}

/// Reads coordinates 1 and 2 of x; the spread is its norm, the base −x.
inline Readout readout(bool spread, bool base) {
  Module module("Readout");
  module.register_buffer("columns", at::tensor({1, 2}, at::kLong));
  module.define(
      std::string(
          "def forward(self, x: Tensor) -> Tuple[Tensor, Optional[Tensor], Optional[Tensor]]:\n"
          "    x = x.to(6)\n"
          "    spread: Optional[Tensor] = None\n"
          "    base: Optional[Tensor] = None\n") +
      (spread ? "    spread = torch.norm(x, 2, [-1], True)\n" : "") +
      (base ? "    base = -x\n" : "") +
      "    return torch.index_select(x, -1, self.columns), spread, base\n");
  return {module, 2};
}

/// A module that writes the file `path` whenever it is loaded.
inline Module writing_when_loaded(const std::string& path) {
  Module module("Net");
  module.register_attribute("path", c10::StringType::get(), path);
  module.define(
      "def __getstate__(self):\n    return self.path\n"
      "def __setstate__(self, state: str):\n"
      "    self.path = state\n"
      "    torch.save(1, state)\n"
      "def forward(self, x: Tensor) -> Tensor:\n    return x\n");
  return module;
}

/// forward(x) waits for a fork of self.branch(x), and adds self.trunk(x), computed after the fork
/// and before the wait.
inline Module forked() {
  Module module("Forked");
  module.register_module("branch", linear(1));
  module.register_module("trunk", linear(2));
  module.define(
      "def forward(self, x: Tensor) -> Tensor:\n    return self.branch.forward(x) + "
      "self.trunk.forward(x)\n");
  // define() knows no fork: it is put around the first call by hand.
  torch::jit::Graph& graph =
      *torch::jit::toGraphFunction(module.type()->getMethod("forward")).graph();
  for (torch::jit::Node* node : graph.nodes()) {
    if (node->kind() != c10::prim::CallMethod) continue;
    auto body = std::make_shared<torch::jit::Graph>();
    for (torch::jit::Value* input : node->inputs()) body->addInput()->setType(input->type());
    torch::jit::Node* call = body->insertNode(body->create(c10::prim::CallMethod, body->inputs()));
    call->s_(c10::attr::name, node->s(c10::attr::name));
    call->output()->setType(node->output()->type());
    body->registerOutput(call->output());
    torch::jit::Node* fork = graph.create(c10::prim::fork, node->inputs())->insertBefore(node);
    fork->g_(c10::attr::Subgraph, body);
    fork->output()->setType(c10::FutureType::create(c10::TensorType::get()));
    torch::jit::Node* sum = graph.outputs().at(0)->node();
    torch::jit::Node* wait = graph.create(c10::aten::wait, {fork->output()})->insertBefore(sum);
    node->output()->replaceAllUsesWith(wait->output());
    node->destroy();
    break;
  }
  graph.lint();
  return module;
}

}  // namespace vyx::test
