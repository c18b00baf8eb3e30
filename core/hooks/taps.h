// Taps: the operators in an instrumented graph that show its values to hooks. Internal to core.
#pragma once
#include <c10/util/intrusive_ptr.h>
#include <torch/csrc/jit/api/module.h>

#include <string_view>
#include <vector>

#include "core/hooks/hook_slot.h"

namespace vyx {

/// A method that is called in a forward pass:
///
///   - forward;
///   - forward1, forward2 … of a traced module that is called several times;
///   - forward__0, forward__1 … of a scripted module that overloads it, as LSTMs do.
bool is_forward(std::string_view method);

struct TappedMethod {
  const torch::jit::Function* function;
  c10::intrusive_ptr<HookSlot> input, output;

  const c10::intrusive_ptr<HookSlot>& slot(Port port) const {
    return port == Port::input ? input : output;
  }
};

/// Puts an input and an output tap into every forward method of `object`, whose class must be its
/// own (unshare.h) and must not have run: a graph that changes after a run is silently stale. Only
/// the caller of a root runs the hooks that were compiled into its class: where these follow its
/// forward, the caller has to fire the output's slot behind them.
std::vector<TappedMethod> insert_taps(const torch::jit::Module& object, bool is_root);

/// Shows `value` to the hooks of a slot, as a tap does.
void run_hooks(HookSlot& slot, c10::IValue& value);

}  // namespace vyx
