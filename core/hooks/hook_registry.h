// Hook lists by slot: what the taps in an instrumented module look up when they run.
//
// A slot belongs to one module object of one HookedModule and has an input and an output port. An
// idle tap costs one load. Lists are copied on write, so hooks come and go while other threads run;
// a HookHandle's destructor returns only when no call of its hook is under way in another thread,
// so that what the hook refers to may be destroyed after it.
#pragma once
#include <ATen/core/ivalue.h>
#include <ATen/core/jit_type_base.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "core/hooks/site_pattern.h"

namespace vyx {

/// Reads the value at `site` (for an input: the tuple of all arguments) and may return another to
/// go on with. It runs on the thread that runs the module. What it throws, the caller of
/// HookedModule::run gets as it was thrown.
using Hook = std::function<std::optional<c10::IValue>(const Site& site, const c10::IValue& value)>;

/// Keeps hooks in place; removes them when it is destroyed. May outlive the module. Move-only.
/// Removed from inside the hook itself, it does not wait for other threads' calls.
class [[nodiscard]] HookHandle {
 public:
  HookHandle() = default;
  HookHandle(HookHandle&&) noexcept;
  HookHandle& operator=(HookHandle&&) noexcept;
  ~HookHandle();
  void remove();

  struct Registration;  // one hook at one port of one slot
  explicit HookHandle(std::vector<std::shared_ptr<Registration>> registrations);

 private:
  std::vector<std::shared_ptr<Registration>> registrations_;
};

}  // namespace vyx
