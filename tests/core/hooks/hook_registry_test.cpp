#include "tests/core/hooks/script_fixtures.h"
// torch first
#include <ATen/core/grad_mode.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "core/hooks/hooked_module.h"

namespace vyx {
namespace {

using c10::IValue;
using test::random;
using test::same;
using namespace std::chrono_literals;

/// A hook that counts.
Hook counting(std::atomic<int>& count) {
  return [&count](const Site&, const IValue&) -> std::optional<IValue> {
    ++count;
    return std::nullopt;
  };
}

/// A hook that adds `amount` to a tensor.
Hook adding(double amount) {
  return [amount](const Site&, const IValue& value) -> std::optional<IValue> {
    return value.toTensor() + amount;
  };
}

TEST_CASE(
    "[core.hook_registry] hooks of a site run in the order in which they were added, each on what "
    "the last one made") {
  const at::NoGradGuard no_grad;
  HookedModule module(test::linear(1));
  const at::Tensor x = random({2, 4}, 7), plain = module.forward({x}).toTensor();
  const HookHandle first = module.hook(":output", adding(1));
  const HookHandle second =
      module.hook(":output", [](const Site&, const IValue& value) -> std::optional<IValue> {
        return value.toTensor() * 3;
      });
  const HookHandle third = module.hook(":output", adding(2));
  CHECK(same(module.forward({x}).toTensor(), (plain + 1) * 3 + 2));
}

TEST_CASE(
    "[core.hook_registry] a handle removes its hooks alone: when destroyed, removed, or assigned "
    "over") {
  HookedModule module(test::stack());
  const at::Tensor x = random({2, 4}, 7);
  std::atomic<int> all{0}, one{0};
  const HookHandle keeps = module.hook("layers.0", counting(one));
  {
    const HookHandle handle = module.hook("**", counting(all));
    module.forward({x});
  }
  CHECK(all == 11);  // the root, 3 × (block, up, down), the head; `layers` is a container
  HookHandle handle = module.hook("layers.1", counting(all));
  handle = module.hook("layers.2", counting(all));
  module.forward({x});
  CHECK(all == 12);
  handle.remove();
  handle.remove();
  HookHandle moved = module.hook("layers.1", counting(all));
  HookHandle target = std::move(moved);
  moved.remove();  // NOLINT: a moved-from handle holds nothing
  module.forward({x});
  CHECK(all == 13);
  CHECK(one == 3);
}

TEST_CASE("[core.hook_registry] a handle may outlive the module") {
  HookHandle handle;
  std::atomic<int> count{0};
  {
    HookedModule module(test::linear(1));
    handle = module.hook(":output", counting(count));
    module.forward({random({4}, 1)});
  }
  handle.remove();
  CHECK(count == 1);
}

TEST_CASE("[core.hook_registry] a hook may remove itself, and others that come after it") {
  HookedModule module(test::linear(1));
  const at::Tensor x = random({4}, 7);
  int self = 0;
  std::atomic<int> later{0};
  HookHandle after, once;
  once = module.hook(":output", [&](const Site&, const IValue&) -> std::optional<IValue> {
    ++self;
    once.remove();
    after.remove();
    return std::nullopt;
  });
  after = module.hook(":output", counting(later));
  module.forward({x});
  module.forward({x});
  CHECK(self == 1);
  CHECK(later == 0);
}

TEST_CASE("[core.hook_registry] a hook may run the module again, and be removed inside that run") {
  const at::NoGradGuard no_grad;
  HookedModule module(test::linear(1));
  const at::Tensor x = random({4}, 7), plain = module.forward({x}).toTensor();
  int depth = 0;
  HookHandle handle;
  handle = module.hook(":output", [&](const Site&, const IValue& value) -> std::optional<IValue> {
    if (++depth == 3) {
      handle.remove();
      return std::nullopt;
    }
    return module.forward({value}).toTensor();
  });
  const at::Tensor y = module.forward({x}).toTensor();
  CHECK(depth == 3);
  CHECK(same(y, module.forward({module.forward({plain})}).toTensor()));
}

TEST_CASE("[core.hook_registry] remove() returns only when no other thread is inside the hook") {
  HookedModule module(test::linear(1));
  const at::Tensor x = random({4}, 7);
  for (int round = 0; round < 5; ++round) {
    std::atomic<bool> inside{false}, left{false};
    auto alive = std::make_shared<int>(1);
    const std::weak_ptr<int> watched = alive;
    HookHandle handle =
        module.hook(":output", [&, alive](const Site&, const IValue&) -> std::optional<IValue> {
          inside = true;
          inside.notify_all();
          std::this_thread::sleep_for(20ms);
          left = true;
          return std::nullopt;
        });
    alive.reset();
    std::thread runner([&] { module.forward({x}); });
    inside.wait(false);
    handle.remove();
    CHECK(left);
    CHECK(watched.expired());  // and what the hook held is gone
    runner.join();
  }
}

TEST_CASE("[core.hook_registry] two threads run the module while a third hooks and unhooks it") {
  HookedModule module(test::stack());
  const at::Tensor x = random({3, 4}, 7);
  const auto forward = [&] {
    const at::NoGradGuard no_grad;
    return module.forward({x}).toTensor();
  };
  const at::Tensor plain = forward();
  const at::Tensor edited = [&] {
    const HookHandle handle = module.hook("layers.1", adding(1));
    return forward();
  }();
  REQUIRE_FALSE(same(plain, edited));

  HookedModule fresh(test::stack());  // both threads compile it at once
  module = fresh;
  std::atomic<bool> stop{false};
  std::atomic<int> wrong{0}, captured{0};
  const auto work = [&] {
    for (int i = 0; i < 400; ++i) {
      const at::Tensor y = forward();
      if (!same(y, plain) && !same(y, edited)) ++wrong;
    }
  };
  std::thread first(work), second(work), registering([&] {
    while (!stop) {
      auto count = std::make_unique<std::atomic<int>>(0);
      {
        const HookHandle edit = module.hook("layers.1", adding(1));
        const HookHandle capture = module.hook("**", counting(*count));
        std::this_thread::sleep_for(50us);
      }
      captured += *count;
      count.reset();  // a call after the handle would write to freed memory
    }
  });
  first.join();
  second.join();
  stop = true;
  registering.join();
  CHECK(wrong == 0);
  CHECK(captured > 0);
  CHECK(same(forward(), plain));
}

TEST_CASE(
    "[core.hook_registry] a replacement of another type is refused with site, found and expected "
    "type") {
  HookedModule module(test::stack());
  const at::Tensor x = random({2, 4}, 7);
  const auto error_with = [&](std::string_view site, const IValue& replacement) {
    const HookHandle handle =
        module.hook(site, [&](const Site&, const IValue&) { return std::optional(replacement); });
    return test::error_of([&] { module.forward({x}); });
  };
  std::string error = error_with("layers.1.up", IValue(7));
  CHECK(test::contains(error, "layers.1.up:output: a hook returned int, expected Tensor"));
  error = error_with("layers.1.up:input", x);
  CHECK(test::contains(error, "layers.1.up:input: a hook returned Tensor, expected Tuple[Tensor]"));
  error = error_with("head:input", c10::ivalue::Tuple::create(x, x));
  CHECK(test::contains(error, "returned Tuple[Tensor, Tensor], expected Tuple[Tensor]"));
  error = error_with("head", at::Tensor());
  CHECK(test::contains(error, "head:output: a hook returned an undefined tensor"));
  module.forward({x});
}

}  // namespace
}  // namespace vyx
