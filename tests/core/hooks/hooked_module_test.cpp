#include "tests/core/hooks/script_fixtures.h"
// torch first
#include <ATen/core/grad_mode.h>

#include "core/hooks/activation.h"
#include "core/hooks/activation_reader.h"
#include "core/hooks/hooked_module.h"
#include "core/hooks/script_error.h"

namespace vyx {
namespace {

using c10::IValue;
using namespace test;

const at::Tensor kRows = random({2, 4}, 7);

std::optional<IValue> nothing() {
  return std::nullopt;
}

/// The sites that fire in a forward, in order.
std::vector<std::string> calls_in(HookedModule& module, Arguments args) {
  std::vector<std::string> calls;
  const HookHandle handle = module.hook("**", [&](const Site& site, const IValue&) {
    calls.push_back(site.path);
    return nothing();
  });
  module.forward(std::move(args));
  return calls;
}

TEST_CASE("[core.hooked_module] an unhooked copy gives what the original gives, run after run") {
  const at::NoGradGuard no_grad;
  const Module original = test::stack();
  HookedModule module(original);
  Module copy = original;
  const at::Tensor expected = copy.forward({kRows}).toTensor();
  for (int i = 0; i < 5; ++i) CHECK(same(module.forward({kRows}).toTensor(), expected));
  const HookHandle handle =
      module.hook("head", [](const Site&, const IValue&) -> std::optional<IValue> {
        return at::zeros({2, 4});
      });
  CHECK(same(module.forward({kRows}).toTensor(), at::zeros({2, 4})));
  CHECK(same(copy.forward({kRows}).toTensor(), expected));  // the original has no taps
  CHECK(module.module().attr("head").toModule().attr("weight").toTensor().is_same(
      original.attr("head").toModule().attr("weight").toTensor()));
}

TEST_CASE(
    "[core.hooked_module] sites stand in the order of the tree, inputs before outputs; containers "
    "have none") {
  const HookedModule module(test::stack());
  const auto& sites = module.sites();
  REQUIRE(sites.size() == 22);
  CHECK(sites[0] == ":input");
  CHECK(sites[1] == ":output");
  CHECK(sites[2] == "layers.0:input");
  CHECK(sites[5] == "layers.0.up:output");
  CHECK(sites.back() == "head:output");
}

TEST_CASE("[core.hooked_module] patterns choose sites; an unknown one names the nearest") {
  HookedModule module(test::stack());
  const auto matched = module.match("layers.{1..2}.*:input");
  REQUIRE(matched.size() == 4);
  CHECK(matched[0].name() == "layers.1.up:input");
  CHECK(matched[3].name() == "layers.2.down:input");
  CHECK(error_of([&] { module.match("layer.1.up"); }) ==
        "Stack: no site matches 'layer.1.up'; the nearest are layers.1.up:output, "
        "layers.0.up:output, layers.2.up:output");
  CHECK(contains(error_of([&] { module.match("layers.{1..3}"); }),
                 "Stack: no site matches 'layers.3:output', one of 3 that"));
  const Site unknown = Site::parse("layers.3:input");
  CHECK(contains(error_of([&] {
                   (void)module.hook(std::span(&unknown, 1),
                                     [](const auto&, const auto&) { return nothing(); });
                 }),
                 "no site layers.3:input; the nearest are layers.0:input"));
}

TEST_CASE("[core.hooked_module] objects of one class are hooked apart") {
  const at::NoGradGuard no_grad;
  HookedModule module(test::stack());
  std::vector<std::string> fired;
  const HookHandle handle = module.hook("layers.1.down", [&](const Site& site, const IValue&) {
    fired.push_back(site.name());
    return nothing();
  });
  module.forward({kRows});
  CHECK(fired == std::vector<std::string>{"layers.1.down:output"});
}

TEST_CASE("[core.hooked_module] an input hook sees and replaces the tuple of all arguments") {
  const at::NoGradGuard no_grad;
  Module scale("Scale");
  scale.define(
      "def forward(self, x: Tensor, by: float, offset: Optional[Tensor]) -> Tensor:\n"
      "    if offset is not None:\n"
      "        x = x + offset\n"
      "    return x * by\n");
  HookedModule module(parent(
      "Root", {{"scale", scale}},
      "def forward(self, x: Tensor) -> Tensor:\n    return self.scale.forward(x, 2.0, None)\n"));
  IValue seen;
  const HookHandle reading = module.hook("scale:input", [&](const Site&, const IValue& value) {
    seen = value;
    return nothing();
  });
  CHECK(same(module.forward({kRows}).toTensor(), kRows * 2));
  REQUIRE(seen.toTupleRef().size() == 3);
  CHECK(seen.toTupleRef().elements()[0].toTensor().is_same(kRows));
  CHECK(seen.toTupleRef().elements()[1].toDouble() == 2);
  CHECK(seen.toTupleRef().elements()[2].isNone());
  const HookHandle replacing =
      module.hook("scale:input", [&](const Site&, const IValue&) -> std::optional<IValue> {
        return c10::ivalue::Tuple::create(kRows, 3.0, at::ones({4}));
      });
  for (int i = 0; i < 4; ++i) CHECK(same(module.forward({kRows}).toTensor(), (kRows + 1) * 3));
}

TEST_CASE("[core.hooked_module] a module without arguments has an input that fires, empty") {
  Module constant("Constant");
  constant.register_buffer("value", at::ones({2}));
  constant.define("def forward(self) -> Tensor:\n    return self.value\n");
  HookedModule module(constant);
  size_t fired = 0;
  const HookHandle handle = module.hook(":input", [&](const Site&, const IValue& value) {
    CHECK(value.toTupleRef().size() == 0);
    ++fired;
    return nothing();
  });
  for (int i = 0; i < 3; ++i) module.forward({});
  CHECK(fired == 3);
}

TEST_CASE("[core.hooked_module] calls whose results are equal or unused are not optimised away") {
  const at::NoGradGuard no_grad;
  HookedModule module(parent("Twice", {{"lin", linear(1)}, {"unused", linear(2)}},
                             "def forward(self, x: Tensor) -> Tensor:\n"
                             "    z = self.unused.forward(x)\n"
                             "    return self.lin.forward(x) + self.lin.forward(x)\n"));
  for (int i = 0; i < 4; ++i) {
    CHECK(calls_in(module, {kRows}) == std::vector<std::string>{"unused", "lin", "lin", ""});
  }
  // An edit in place reaches both calls, each once.
  const at::Tensor plain = module.forward({kRows}).toTensor();
  const HookHandle handle = module.hook("lin", [](const Site&, const IValue& value) {
    value.toTensor().mul_(2);
    return nothing();
  });
  CHECK(same(module.forward({kRows}).toTensor(), plain * 2));
}

TEST_CASE("[core.hooked_module] a shared submodule is one object with several paths") {
  const at::NoGradGuard no_grad;
  const Module shared = linear(1);
  const auto wrapper = [&](uint64_t seed) {
    return parent("Wrapper", {{"s", shared}, {"own", linear(seed)}},
                  "def forward(self, x: Tensor) -> Tensor:\n    return "
                  "self.own.forward(self.s.forward(x))\n");
  };
  HookedModule module(
      parent("Shared", {{"s", shared}, {"a", wrapper(2)}, {"b", wrapper(3)}},
             "def forward(self, x: Tensor) -> Tensor:\n"
             "    return self.a.forward(x) + self.b.forward(x) + self.s.forward(x)\n"));
  CHECK(module.match("**.s").size() == 1);
  CHECK(module.match("b.s").front().name() == "b.s:output");  // by the name that was asked for
  CHECK(std::count(module.sites().begin(), module.sites().end(), "a.s:output") == 1);
  int fired = 0;
  const HookHandle handle = module.hook("a.s", [&](const Site& site, const IValue&) {
    CHECK(site.name() == "a.s:output");
    ++fired;
    return nothing();
  });
  module.forward({kRows});
  CHECK(fired == 3);
  CHECK(module.calls_at_most("forward", Site::parse("s")) == 2);
  CHECK(module.calls_at_most("forward", Site::parse("a.own")) == 1);
  CHECK(capture(module, "b.s", {kRows}).at("b.s:output").size() == 3);
}

TEST_CASE(
    "[core.hooked_module] forward1, which tracing makes of a second call, and overloads are tapped "
    "too") {
  const at::NoGradGuard no_grad;
  Module inner = linear(1);
  inner.define("def forward1(self, x: Tensor, y: Tensor) -> Tensor:\n    return x * y\n");
  inner.define("def forward__0(self, x: Tensor) -> Tensor:\n    return self.forward(x)\n");
  inner.define("def forward_features(self, x: Tensor) -> Tensor:\n    return x\n");
  HookedModule module(parent("Root", {{"inner", inner}},
                             "def forward(self, x: Tensor) -> Tensor:\n"
                             "    y = self.inner.forward_features(self.inner.forward__0(x))\n"
                             "    return self.inner.forward1(y, x)\n"));
  CHECK(calls_in(module, {kRows}) == std::vector<std::string>{"inner", "inner", "inner", ""});
  const auto inputs = [&] {
    std::vector<size_t> sizes;
    const HookHandle handle = module.hook("inner:input", [&](const Site&, const IValue& value) {
      sizes.push_back(value.toTupleRef().size());
      return nothing();
    });
    module.forward({kRows});
    return sizes;
  }();
  CHECK(inputs == std::vector<size_t>{1, 1, 2});
}

TEST_CASE("[core.hooked_module] tuples, dicts and optionals pass as they are") {
  const at::NoGradGuard no_grad;
  Module inner("Inner");
  inner.define(
      "def forward(self, x: Tensor, flag: bool) -> Tuple[Optional[Tensor], Dict[str, Tensor]]:\n"
      "    out: Optional[Tensor] = None\n"
      "    if flag:\n"
      "        out = x + 1\n"
      "    return out, {'x': x, 'double': x * 2}\n");
  HookedModule module(parent("Root", {{"inner", inner}},
                             "def forward(self, x: Tensor, flag: bool) -> Tensor:\n"
                             "    a, b = self.inner.forward(x, flag)\n"
                             "    if a is not None:\n"
                             "        return a + b['double']\n"
                             "    return b['x']\n"));
  for (int i = 0; i < 3; ++i) {
    CHECK(capture(module, "inner", {kRows, true}).at("inner:output")[0].equal(kRows + 1));
    CHECK(capture(module, "inner", {kRows, false})
              .at("inner:output")[0]
              .equal(kRows));  // the dict's first tensor
  }
  const HookHandle handle =
      module.hook("inner", [](const Site&, const IValue& value) -> std::optional<IValue> {
        return with_activation(value, *activation_of(value) * 10);
      });
  CHECK(same(module.forward({kRows, true}).toTensor(), (kRows + 1) * 10 + kRows * 2));
  CHECK(same(module.forward({kRows, false}).toTensor(), kRows * 10));
}

TEST_CASE("[core.hooked_module] gradients flow through hooks") {
  const Module original = test::stack();
  for (at::Tensor parameter : original.parameters()) parameter.requires_grad_(true);
  HookedModule module(original);
  for (int i = 0; i < 4; ++i) {  // past the profiling runs
    const at::Tensor v = at::ones({4}).requires_grad_(true);
    at::Tensor seen;
    const HookHandle handle =
        module.hook("layers.1", [&](const Site&, const IValue& value) -> std::optional<IValue> {
          seen = value.toTensor();
          seen.retain_grad();
          return seen + 2 * v;
        });
    module.forward({kRows}).toTensor().pow(2).sum().backward();
    REQUIRE(seen.grad().defined());
    CHECK(at::allclose(v.grad(), 2 * seen.grad().sum(0)));
    CHECK(original.attr("head").toModule().attr("weight").toTensor().grad().defined());
  }
}

/// Hooks (self, (x,)) → (x + 1,) and (self, (x,), y) → 2 y + the x that it saw, compiled into the
/// root as Python compiles them.
Module with_compiled_hooks() {
  Module module = parent("Hooked", {{"lin", linear(1)}},
                         "def before(self, inputs: Tuple[Tensor]) -> Tuple[Tensor]:\n"
                         "    return (inputs[0] + 1,)\n"
                         "def after(self, inputs: Tuple[Tensor], output: Tensor) -> Tensor:\n"
                         "    return output * 2 + inputs[0]\n"
                         "def forward(self, x: Tensor) -> Tensor:\n"
                         "    return self.lin.forward(x)\n");
  module.type()->addForwardPreHook(test::hook_of(module, "before"));
  module.type()->addForwardHook(test::hook_of(module, "after"));
  return module;
}

TEST_CASE("[core.hooked_module] hooks that were compiled into the root run, as in Python's m(x)") {
  const at::NoGradGuard no_grad;
  const Module original = with_compiled_hooks();
  Module lin = original.attr("lin").toModule();
  const at::Tensor inner = lin.forward({kRows + 1}).toTensor();
  HookedModule module(original);
  for (int i = 0; i < 3; ++i) {
    CHECK(same(module.forward({kRows}).toTensor(), inner * 2 + (kRows + 1)));
    CHECK(same(module.forward({}, {{"x", kRows}}).toTensor(), inner * 2 + (kRows + 1)));
  }
  const auto read = [&](const char* site) {
    return capture(module, site, {kRows}).begin()->second[0];
  };
  CHECK(same(read(":input"), kRows + 1));
  CHECK(same(read("lin"), inner));
  CHECK(same(read(":output"), inner * 2 + (kRows + 1)));
  const HookHandle last =
      module.hook(":output", [](const Site&, const IValue& value) -> std::optional<IValue> {
        return value.toTensor() * 3;
      });
  CHECK(same(module.forward({kRows}).toTensor(), (inner * 2 + (kRows + 1)) * 3));
  const HookHandle throws =
      module.hook(":output", [](const Site&, const IValue&) -> std::optional<IValue> { throw 7; });
  CHECK_THROWS_AS(module.forward({kRows}), int);
}

TEST_CASE("[core.hooked_module] a stateful module keeps its state in the copy") {
  const at::NoGradGuard no_grad;
  Module cell("Cell");
  cell.register_module("lin", linear(1));
  cell.register_attribute("state", c10::TensorType::get(), at::zeros({2, 4}));
  cell.define(
      "def forward(self, x: Tensor, steps: int) -> Tensor:\n"
      "    for i in range(steps):\n"
      "        self.state = torch.tanh(self.lin.forward(x + self.state))\n"
      "    return self.state\n");
  HookedModule module(cell);
  CHECK(capture(module, "lin", {kRows, 3}).at("lin:output").size() == 3);
  CHECK(module.calls_at_most("forward", Site::parse("lin")) == 2);
  CHECK_FALSE(module.module().attr("state").toTensor().equal(at::zeros({2, 4})));
  CHECK(cell.attr("state").toTensor().equal(at::zeros({2, 4})));
}

// ------------------------------------------------------------------------------------------------
// exceptions

TEST_CASE(
    "[core.hooked_module] what a hook throws arrives as it was thrown, and the module goes on "
    "working") {
  const at::NoGradGuard no_grad;
  struct Custom {
    int code;
  };
  HookedModule module(test::stack());
  const at::Tensor expected = module.forward({kRows}).toTensor();
  const auto throwing = [&](auto thrown) {
    return module.hook(
        "layers.1.up",
        [thrown](const Site&, const IValue&) -> std::optional<IValue> { throw thrown; });
  };
  for (int i = 0; i < 3; ++i) {
    {
      const HookHandle handle = throwing(std::out_of_range("mine"));
      CHECK_THROWS_AS(module.forward({kRows}), std::out_of_range);
    }
    {
      const HookHandle handle = throwing(Custom{42});
      CHECK_THROWS_AS(module.forward({kRows}), Custom);
    }
    {
      const HookHandle handle = throwing(Error("one line"));
      CHECK(error_of([&] { module.forward({kRows}); }) == "one line");
    }
    CHECK(same(module.forward({kRows}).toTensor(), expected));
  }
}

TEST_CASE("[core.hooked_module] an exception of a nested run passes both") {
  HookedModule outer(test::stack()), inner(linear(1));
  const HookHandle throws =
      inner.hook(":output", [](const Site&, const IValue&) -> std::optional<IValue> { throw 7; });
  int caught_inside = 0;
  const HookHandle runs =
      outer.hook("head", [&](const Site&, const IValue& value) -> std::optional<IValue> {
        try {
          inner.forward({value});
        } catch (int) {
          ++caught_inside;
          throw;
        }
        return std::nullopt;
      });
  CHECK_THROWS_AS(outer.forward({kRows}), int);
  CHECK(caught_inside == 1);
}

TEST_CASE("[core.hooked_module] hooks in a forked branch fire, replace, and throw to the caller") {
  const at::NoGradGuard no_grad;
  HookedModule module(test::forked());
  const at::Tensor plain = module.forward({kRows}).toTensor();
  for (int i = 0; i < 20; ++i) {
    {
      const HookHandle adds =
          module.hook("branch", [](const Site&, const IValue& value) -> std::optional<IValue> {
            return value.toTensor() + 1;
          });
      CHECK(at::allclose(module.forward({kRows}).toTensor(), plain + 1));
    }
    {
      struct Custom {};
      const HookHandle throws = module.hook(
          "branch", [](const Site&, const IValue&) -> std::optional<IValue> { throw Custom(); });
      CHECK_THROWS_AS(module.forward({kRows}), Custom);
    }
    CHECK(capture(module, "*", {kRows}).size() == 2);
    CHECK(same(module.forward({kRows}).toTensor(), plain));
  }
  CHECK(module.calls_at_most("forward", Site::parse("branch")) == 2);
  CHECK(module.calls_at_most("forward", Site::parse("trunk")) == 1);
}

TEST_CASE("[core.hooked_module] TorchScript's errors become one line") {
  HookedModule module(test::stack());
  const std::string wrong_shape = error_of([&] { module.forward({at::ones({2, 5})}); });
  CHECK(contains(wrong_shape,
                 "Stack.forward: mat1 and mat2 shapes cannot be multiplied (2x5 and 4x4)"));
  CHECK_FALSE(contains(wrong_shape, "\n"));
  const std::string wrong_type = error_of([&] { module.forward({7}); });
  CHECK(contains(wrong_type, "Stack.forward: forward() Expected a value of type 'Tensor"));
  CHECK_FALSE(contains(wrong_type, "\n"));
  CHECK(error_of([&] { module.run("backward", {kRows}); }) ==
        "Stack: no method backward; it has forward");
  Module raising("Raising");
  raising.define(
      "def forward(self, x: Tensor) -> Tensor:\n    assert bool(x.sum() > 1e9), 'too small'\n    "
      "return x\n");
  const std::string raised = error_of([&] { HookedModule(raising).forward({kRows}); });
  CHECK(contains(raised, "Raising.forward: "));
  CHECK(contains(raised, "too small"));
  // What Python raises has a name of its own, which C++ cannot write.
  const std::runtime_error named(
      "The following operation failed in the TorchScript interpreter.\n"
      "Traceback of TorchScript (most recent call last):\n  File \"net.py\", line 14, in forward\n"
      "            raise ValueError(\"batch too large: \" + str(n))\n            ~~~~~ <--- HERE\n"
      "builtins.ValueError: batch too large: 3\n");
  CHECK(reason_of(named) == "batch too large: 3");
}

TEST_CASE("[core.hooked_module] keyword arguments reach the method") {
  HookedModule module(linear(1));
  CHECK(same(module.forward({}, {{"x", kRows}}).toTensor(), module.forward({kRows}).toTensor()));
}

// ---------------------------------------------------------------------------------------------
// stopping early

TEST_CASE("[core.hooked_module] a harvest stops after the last site that anyone listens to") {
  const at::NoGradGuard no_grad;
  HookedModule module(test::stack());
  int head = 0, captured = 0;
  // A module that fails when it is reached, to see that it is not: an input of the wrong shape for
  // layers.2.
  const HookHandle first = module.hook("layers.0", [&](const Site&, const IValue&) {
    ++captured;
    return nothing();
  });
  const HookHandle breaks =
      module.hook("layers.1", [&](const Site&, const IValue&) -> std::optional<IValue> {
        return at::ones({2, 5});
      });
  for (int i = 0; i < 3; ++i) CHECK_NOTHROW(module.harvest("forward", {kRows}));
  CHECK(captured == 3);
  const HookHandle last = module.hook("head:input", [&](const Site&, const IValue&) {
    ++head;
    return nothing();
  });
  CHECK(contains(error_of([&] { module.harvest("forward", {kRows}); }),
                 "shapes cannot be multiplied"));
  CHECK(head == 0);
}

TEST_CASE(
    "[core.hooked_module] a harvest of sites called more than once runs to the end, and one "
    "without hooks not at all") {
  const at::NoGradGuard no_grad;
  HookedModule module(parent("Loop", {{"lin", linear(1)}, {"tail", linear(2)}},
                             "def forward(self, x: Tensor, n: int) -> Tensor:\n"
                             "    for i in range(n):\n"
                             "        x = self.lin.forward(x)\n"
                             "    return self.tail.forward(x)\n"));
  CHECK(capture(module, "lin", {kRows, 4}).at("lin:output").size() == 4);
  CHECK_NOTHROW(module.harvest("forward", {at::ones({2, 9}), 1}));  // would fail if it ran
}

TEST_CASE("[core.hooked_module] nested harvests stop their own run only") {
  const at::NoGradGuard no_grad;
  HookedModule module(test::stack());
  const at::Tensor expected = module.forward({kRows}).toTensor();
  bool nested = false;
  const HookHandle handle = module.hook("layers.0", [&](const Site&, const IValue&) {
    if (!std::exchange(nested, true)) module.harvest("forward", {kRows});
    return nothing();
  });
  CHECK(same(module.forward({kRows}).toTensor(), expected));
  CHECK(nested);
}

TEST_CASE(
    "[core.hooked_module] calls_at_most adds calls, takes the larger branch, and counts loops "
    "twice") {
  Module root =
      parent("Root", {{"a", linear(1)}, {"b", linear(2)}, {"c", linear(3)}, {"never", linear(4)}},
             "def helper(self, x: Tensor) -> Tensor:\n"
             "    return self.c.forward(x)\n"
             "def forward(self, x: Tensor, flag: bool) -> Tensor:\n"
             "    if flag:\n"
             "        x = self.a.forward(x)\n"
             "    else:\n"
             "        x = self.a.forward(x) * 2\n"
             "    while bool(x.sum() > 0):\n"
             "        x = self.b.forward(x) - 1\n"
             "    return self.helper(x)\n"
             "def both(self, x: Tensor) -> Tensor:\n"
             "    return self.helper(x) + self.helper(x)\n");
  const HookedModule module(root);
  const auto calls = [&](const char* method, const char* site) {
    return module.calls_at_most(method, Site::parse(site));
  };
  CHECK(calls("forward", "") == 1);
  CHECK(calls("forward", "a") == 1);
  CHECK(calls("forward", "b:input") == 2);
  CHECK(calls("forward", "c") == 1);
  CHECK(calls("forward", "never") == 0);
  CHECK(calls("both", "c") == 2);
  CHECK(calls("both", "") == 0);
}

}  // namespace
}  // namespace vyx
