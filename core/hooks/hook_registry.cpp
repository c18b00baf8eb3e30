#include "core/hooks/hook_registry.h"

#include <algorithm>
#include <utility>

#include "core/base/error.h"
#include "core/hooks/hook_slot.h"

namespace vyx {
namespace {

using Registration = HookHandle::Registration;

/// Announces a call of a hook while it is under way. Announcing comes before looking at `removed`,
/// and remove() goes the other way round: one of the two always sees the other.
class HookCall {
 public:
  explicit HookCall(Registration& registration) : registration_(registration), outer_(innermost_) {
    registration_.running.fetch_add(1);
    innermost_ = this;
  }
  HookCall(const HookCall&) = delete;
  HookCall& operator=(const HookCall&) = delete;
  ~HookCall() {
    innermost_ = outer_;
    registration_.running.fetch_sub(1);
    if (registration_.removed) registration_.running.notify_all();
  }

  /// Whether this thread is inside the hook: then waiting for its end would be waiting for oneself.
  static bool under_way_here(const Registration& registration) {
    for (const HookCall* call = innermost_; call != nullptr; call = call->outer_) {
      if (&call->registration_ == &registration) return true;
    }
    return false;
  }

 private:
  Registration& registration_;
  const HookCall* outer_;
  static thread_local const HookCall* innermost_;
};

thread_local const HookCall* HookCall::innermost_ = nullptr;

}  // namespace

void HookSlot::add(std::shared_ptr<Registration> registration) {
  const std::lock_guard lock(mutex_);
  auto longer = hooks_ ? std::make_shared<List>(*hooks_) : std::make_shared<List>();
  longer->push_back(std::move(registration));
  hooks_ = std::move(longer);
  hooked_.store(true, std::memory_order_release);
}

void HookSlot::remove(const Registration& registration) {
  const std::lock_guard lock(mutex_);
  if (!hooks_) return;
  auto shorter = std::make_shared<List>(*hooks_);
  std::erase_if(*shorter, [&](const auto& other) { return other.get() == &registration; });
  if (shorter->empty()) {
    hooked_.store(false, std::memory_order_release);
    hooks_ = nullptr;
  } else {
    hooks_ = std::move(shorter);
  }
}

void HookSlot::run(c10::IValue& value) {
  std::shared_ptr<const List> hooks;
  {
    const std::lock_guard lock(mutex_);
    hooks = hooks_;
  }
  if (!hooks) return;
  for (const auto& registration : *hooks) {
    const HookCall call(*registration);
    if (registration->removed) continue;
    if (auto replacement = (*registration->hook)(registration->site, value)) {
      check(*replacement, registration->site);
      value = std::move(*replacement);
    }
  }
}

void HookSlot::check(const c10::IValue& replacement, const Site& site) const {
  if (replacement.isTensor() && type_->kind() == c10::TypeKind::TensorType) {
    if (!replacement.toTensor().defined())
      fail("{}: a hook returned an undefined tensor", site.name());
    return;
  }
  const c10::TypePtr found = replacement.type();
  if (!found->isSubtypeOf(*type_)) {
    fail(
        "{}: a hook returned {}, expected {}; a replacement has the type of the value that the "
        "hook was given",
        site.name(), found->repr_str(), type_->repr_str());
  }
}

HookHandle::HookHandle(std::vector<std::shared_ptr<Registration>> registrations)
    : registrations_(std::move(registrations)) {}

HookHandle::HookHandle(HookHandle&& other) noexcept
    : registrations_(std::exchange(other.registrations_, {})) {}

HookHandle& HookHandle::operator=(HookHandle&& other) noexcept {
  if (this != &other) {
    remove();
    registrations_ = std::exchange(other.registrations_, {});
  }
  return *this;
}

HookHandle::~HookHandle() {
  remove();
}

void HookHandle::remove() {
  const auto registrations = std::exchange(registrations_, {});
  for (const auto& registration : registrations) {
    registration->slot->remove(*registration);
    registration->removed = true;
  }
  for (const auto& registration : registrations) {
    if (HookCall::under_way_here(*registration)) continue;
    for (int running = registration->running; running != 0; running = registration->running) {
      registration->running.wait(running);
    }
    registration->hook = nullptr;  // what it holds goes now, in this thread, not with the last list
  }
}

}  // namespace vyx
