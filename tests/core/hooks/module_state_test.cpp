#include "tests/core/hooks/script_fixtures.h"
// torch first
#include "core/hooks/hooked_module.h"
#include "core/hooks/module_state.h"

namespace vyx {
namespace {

using namespace test;

/// Keeps a sum in a buffer, which another attribute shares, and the calls in a list.
Module counting_module() {
  Module inner("Inner"), module("Counting");
  inner.register_parameter("weight", at::ones({2}), false);
  inner.register_buffer("sum", at::zeros({2}));
  inner.register_attribute("calls", c10::ListType::ofInts(), c10::List<int64_t>());
  inner.define(
      "def forward(self, x: Tensor) -> Tensor:\n    self.sum.add_(x)\n"
      "    self.calls.append(x.size(0))\n    return self.sum * self.weight\n");
  module.register_module("inner", inner);
  module.register_buffer("same", inner.attr("sum").toTensor());
  module.define(
      "def forward(self, x: Tensor) -> Tensor:\n    return self.inner.forward(x) + self.same\n");
  return module;
}

TEST_CASE("[core.module_state] a module is put back, and its runs reach no other's tensors") {
  const Module original = counting_module();
  HookedModule module(original);
  ModuleState state(module.module());
  CHECK_FALSE(state.changed());
  const at::Tensor x = at::ones({2});
  for (int i = 0; i < 2; ++i) {
    CHECK(same(module.forward({x}).toTensor(), at::full({2}, 2.0)));  // shared still
    CHECK(state.changed());
    CHECK(same(module.forward({x}).toTensor(), at::full({2}, 4.0)));
    state.restore();
    CHECK_FALSE(state.changed());
  }
  const Module inner = original.attr("inner").toModule();
  CHECK(same(inner.attr("sum").toTensor(), at::zeros({2})));
  CHECK(inner.attr("calls").toIntVector().empty());
  CHECK(module.module().attr("inner").toModule().attr("weight").toTensor().is_same(
      inner.attr("weight").toTensor()));  // parameters stay shared
}

}  // namespace
}  // namespace vyx
