#include "core/hooks/taps.h"

#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/runtime/custom_operator.h>

#include <algorithm>
#include <utility>

#include "core/hooks/run_frame.h"

namespace vyx {
namespace {

using torch::jit::Graph;
using torch::jit::IValue;
using torch::jit::Node;
using torch::jit::Operation;
using torch::jit::Operator;
using torch::jit::Stack;
using torch::jit::Value;

const c10::Symbol kInputTap = c10::Symbol::fromQualString("vyx::input_tap");
const c10::Symbol kOutputTap = c10::Symbol::fromQualString("vyx::output_tap");
const c10::Symbol kSlot = c10::Symbol::attr("slot");

c10::intrusive_ptr<HookSlot> slot_of(const Node* tap) {
  return c10::static_intrusive_pointer_cast<HookSlot>(tap->ival(kSlot).toCapsule());
}

// Note [Idle taps]
// A tap's inputs are its outputs, so that an idle one leaves the stack as it is and costs one load
// and the interpreter's moves. Both operators take any number of values: for such an operator the
// interpreter makes one kernel per node, which has its slot at hand; operators of a fixed schema
// share one kernel and would have to be told an id through the stack. The arguments are packed into
// a tuple only for hooks.
Operation input_tap(const Node* tap) {
  return [slot = slot_of(tap), arity = tap->inputs().size()](Stack& stack) {
    if (C10_LIKELY(!slot->hooked())) return;
    IValue arguments = c10::ivalue::Tuple::create(torch::jit::last(stack, arity).vec());
    run_hooks(*slot, arguments);
    const auto& elements = arguments.toTupleRef().elements();
    std::copy(elements.begin(), elements.end(), stack.end() - static_cast<std::ptrdiff_t>(arity));
  };
}

Operation output_tap(const Node* tap) {
  return [slot = slot_of(tap)](Stack& stack) {
    if (C10_LIKELY(!slot->hooked())) return;
    run_hooks(*slot, stack.back());
  };
}

// Any kind of alias analysis but CONSERVATIVE, and common subexpression or dead code elimination
// takes taps away.
const torch::jit::RegisterOperators kOperators({
    Operator(kInputTap, input_tap, c10::AliasAnalysisKind::CONSERVATIVE),
    Operator(kOutputTap, output_tap, c10::AliasAnalysisKind::CONSERVATIVE),
});

Node* insert_tap(Graph& graph, c10::Symbol kind, at::ArrayRef<Value*> values,
                 const c10::intrusive_ptr<HookSlot>& slot) {
  Node* tap = graph.insertNode(graph.create(kind, values, values.size()));
  tap->ival_(kSlot, IValue::make_capsule(slot));
  for (size_t i = 0; i < values.size(); ++i) tap->output(i)->setType(values[i]->type());
  return tap;
}

/// A traced method may take modules as arguments; they are no values to hook.
bool holds_module(const c10::TypePtr& type) {
  if (type->is_module()) return true;
  const auto parts = type->containedTypes();
  return std::any_of(parts.begin(), parts.end(), holds_module);
}

c10::intrusive_ptr<HookSlot> tap_input(Graph& graph) {
  std::vector<Value*> arguments;
  std::vector<c10::TypePtr> types;
  for (Value* input : graph.inputs().slice(1)) {  // without self
    if (holds_module(input->type())) continue;
    arguments.push_back(input);
    types.push_back(c10::unshapedType(input->type()));
  }
  const auto slot = c10::make_intrusive<HookSlot>(c10::TupleType::create(std::move(types)));
  const torch::jit::WithInsertPoint start(*graph.nodes().begin());
  Node* tap = insert_tap(graph, kInputTap, arguments, slot);
  for (size_t i = 0; i < arguments.size(); ++i)
    arguments[i]->replaceAllUsesAfterNodeWith(tap, tap->output(i));
  return slot;
}

c10::intrusive_ptr<HookSlot> tap_output(Graph& graph) {
  Value* output = graph.outputs().at(0);  // a method has exactly one
  const auto slot = c10::make_intrusive<HookSlot>(c10::unshapedType(output->type()));
  const torch::jit::WithInsertPoint end(graph.return_node());
  graph.return_node()->replaceInput(0, insert_tap(graph, kOutputTap, {output}, slot)->output());
  return slot;
}

/// The slot of a forward whose output goes through the hooks that were compiled into its class: its
/// hooks see what the last of those returns, and the caller runs them.
c10::intrusive_ptr<HookSlot> slot_behind_hooks(const torch::jit::Module& object, Graph& graph) {
  c10::TypePtr type = c10::unshapedType(graph.outputs().at(0)->type());
  for (const torch::jit::Function* hook : object.type()->getForwardHooks()) {
    const c10::TypePtr& returned = hook->getSchema().returns().at(0).type();
    if (returned->kind() != c10::TypeKind::NoneType) type = c10::unshapedType(returned);
  }
  return c10::make_intrusive<HookSlot>(std::move(type));
}

}  // namespace

void run_hooks(HookSlot& slot, IValue& value) {
  const RunFrame* frame = current_frame();
  // Held here, because a branch that nobody waits for can outlive the call that forked it.
  const std::shared_ptr<Run> run = frame ? frame->run : nullptr;
  try {
    slot.run(value);
  } catch (...) {
    if (run) throw run->keep(std::current_exception());
    throw;
  }
  if (run) run->fired(slot);
}

bool is_forward(std::string_view method) {
  constexpr std::string_view kName = "forward", kOverload = "__";
  if (!method.starts_with(kName)) return false;
  method.remove_prefix(kName.size());
  if (method.starts_with(kOverload)) method.remove_prefix(kOverload.size());
  return method.find_first_not_of("0123456789") == std::string_view::npos;
}

std::vector<TappedMethod> insert_taps(const torch::jit::Module& object, bool is_root) {
  std::vector<TappedMethod> tapped;
  for (torch::jit::Function* function : object.type()->methods()) {
    if (!is_forward(function->name())) continue;
    Graph& graph = *torch::jit::toGraphFunction(*function).graph();
    auto input = tap_input(graph);
    const bool hooks_follow =
        is_root && function->name() == "forward" && !object.type()->getForwardHooks().empty();
    auto output = hooks_follow ? slot_behind_hooks(object, graph) : tap_output(graph);
    graph.lint();
    tapped.push_back(
        {.function = function, .input = std::move(input), .output = std::move(output)});
  }
  return tapped;
}

}  // namespace vyx
