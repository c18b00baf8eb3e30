#include "core/hooks/call_bounds.h"

#include <torch/csrc/jit/api/function_impl.h>

#include <algorithm>

namespace vyx {
namespace {

constexpr int kMany = 2;

}  // namespace

void CallBounds::Calls::add(const Calls& other, int times) {
  unknown |= other.unknown;
  for (const auto& [function, count] : other.at_most) {
    int& sum = at_most[function];
    sum = std::min(kMany, sum + count * times);
  }
}

void CallBounds::Calls::take_larger(const Calls& other) {
  unknown |= other.unknown;
  for (const auto& [function, count] : other.at_most)
    at_most[function] = std::max(at_most[function], count);
}

CallBounds::Calls CallBounds::calls_by(torch::jit::Node& node) {
  Calls calls;
  const auto call = [&](torch::jit::Function& function) {
    calls.add({.at_most = {{&function, 1}}}, 1);
    calls.add(calls_of(function), 1);
  };
  switch (node.kind()) {
    case c10::prim::CallMethod:
      // The receiver of an interface call may be any object that has the method.
      if (const auto cls = node.input(0)->type()->cast<c10::ClassType>()) {
        call(cls->getMethod(node.s(c10::attr::name)));
      } else {
        calls.unknown = true;
      }
      break;
    case c10::prim::CallFunction:
      call(*node.input(0)->type()->expectRef<c10::FunctionType>().function());
      break;
    case c10::prim::If:  // one branch or the other
      for (torch::jit::Block* branch : node.blocks()) calls.take_larger(calls_in(*branch));
      break;
    default:  // a loop, or whatever else has a body
      for (torch::jit::Block* body : node.blocks()) calls.add(calls_in(*body), kMany);
  }
  // Forks run whenever and on whatever thread they like.
  if (node.hasAttribute(c10::attr::Subgraph))
    calls.add(calls_in(*node.g(c10::attr::Subgraph)->block()), kMany);
  return calls;
}

CallBounds::Calls CallBounds::calls_in(torch::jit::Block& block) {
  Calls calls;
  for (torch::jit::Node* node : block.nodes()) calls.add(calls_by(*node), 1);
  return calls;
}

const CallBounds::Calls& CallBounds::calls_of(torch::jit::Function& function) {
  if (const auto known = known_.find(&function); known != known_.end()) return known->second;
  // nullptr: a builtin, which calls no module.
  const auto* graph = torch::jit::tryToGraphFunction(function);
  Calls calls = graph ? calls_in(*graph->graph()->block()) : Calls();
  return known_.emplace(&function, std::move(calls)).first->second;
}

int CallBounds::at_most(const torch::jit::Function& entry, const torch::jit::Function& callee) {
  if (&entry == &callee) return 1;  // a method cannot call itself
  const Calls& calls = calls_of(const_cast<torch::jit::Function&>(entry));
  if (calls.unknown) return kMany;
  const auto found = calls.at_most.find(&callee);
  return found == calls.at_most.end() ? 0 : found->second;
}

}  // namespace vyx
