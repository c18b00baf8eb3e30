// The hooks at one port of one method of one module object. The method's tap owns its slot, as an
// attribute of its node, so that a slot lives exactly as long as a graph that can reach it.
// Internal to core.
#pragma once
#include <ATen/core/ivalue.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "core/hooks/hook_registry.h"

namespace vyx {

class HookSlot final : public torch::CustomClassHolder {
 public:
  /// `type` is the static type of the values that pass, which replacements must have.
  explicit HookSlot(c10::TypePtr type) : type_(std::move(type)) {}

  bool hooked() const { return hooked_.load(std::memory_order_acquire); }

  void add(std::shared_ptr<HookHandle::Registration> registration);
  void remove(const HookHandle::Registration& registration);

  /// Runs the hooks in their order; `value` becomes what the last one made of it. Throws Error for
  /// a replacement of another type.
  void run(c10::IValue& value);

 private:
  using List = std::vector<std::shared_ptr<HookHandle::Registration>>;
  void check(const c10::IValue& replacement, const Site& site) const;

  c10::TypePtr type_;
  std::atomic<bool> hooked_ = false;   // all that an idle tap looks at
  std::mutex mutex_;                   // of hooks_, not of what it points to
  std::shared_ptr<const List> hooks_;  // copied on write: a run keeps the list that it began with
};

struct HookHandle::Registration {
  Site site;                         // as the hook asked for it
  std::shared_ptr<const Hook> hook;  // one for all registrations of a handle
  c10::intrusive_ptr<HookSlot> slot;
  std::atomic<int> running = 0;  // calls under way, in all threads
  std::atomic<bool> removed = false;
};

}  // namespace vyx
