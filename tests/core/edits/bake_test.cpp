#include "core/edits/attached_edit.h"
#include "tests/core/hooks/script_fixtures.h"
// torch first
#include <ATen/core/grad_mode.h>
#include <torch/csrc/jit/serialization/import.h>

#include <sstream>

#include "core/edits/bake.h"

namespace vyx {
namespace {

using c10::IValue;
using test::contains;
using test::error_of;
using test::Module;
using test::random;
using test::same;

const at::Tensor kActivations = random({2, 3, 4}, 7);  // [batch, seq, d]
const at::Tensor kVector = random({4}, 8), kU = random({4}, 9);

Edit everything() {
  return Edit({Term::add(kVector),
               Term::ablate(kU),
               Term::clamp(kVector, 2),
               {.reader = kU,
                .bias = 0.5,
                .gate = {.constant = 1, .linear = -1, .rectified = 2, .step = 3},
                .writer = kVector}});
}

/// What the module gives with the edits attached.
IValue hooked(const Module& module, const std::vector<SiteEdit>& edits, double coefficient,
              Arguments args) {
  HookedModule instrumented(module);
  std::vector<AttachedEdit> attached;
  for (const auto& [site, edit] : edits) {
    attached.push_back(attach(instrumented, site, edit,
                              {.coefficients = at::scalar_tensor(coefficient, at::kDouble)}));
  }
  return instrumented.forward(std::move(args));
}

/// Equal type by type and tensor by tensor.
bool same_value(const IValue& a, const IValue& b) {
  if (a.isTensor() && b.isTensor()) return same(a.toTensor(), b.toTensor());
  const auto all = [](const auto& as, const auto& bs) {
    return as.size() == bs.size() && std::equal(as.begin(), as.end(), bs.begin(), same_value);
  };
  if (a.isTuple() && b.isTuple())
    return all(a.toTupleRef().elements().vec(), b.toTupleRef().elements().vec());
  if (a.isList() && b.isList()) return all(a.toListRef(), b.toListRef());
  if (a.isGenericDict() && b.isGenericDict()) {
    const auto as = a.toGenericDict(), bs = b.toGenericDict();
    return as.size() == bs.size() &&
           std::equal(as.begin(), as.end(), bs.begin(), [](const auto& x, const auto& y) {
             return x.key() == y.key() && same_value(x.value(), y.value());
           });
  }
  return a == b;
}

Module reloaded(const Module& module) {
  std::stringstream archive;
  module.save(archive);
  return torch::jit::load(archive);
}

TEST_CASE(
    "[core.bake] baked equals hooked bit for bit: in every type, at every coefficient, after a "
    "reload") {
  const at::NoGradGuard no_grad;
  const auto compare = [](c10::ScalarType type, const std::vector<Term>& terms) {
    Module module = test::stack();
    module.to(type);
    const at::Tensor x = kActivations.to(type), plain = module.forward({x}).toTensor();
    const std::vector<SiteEdit> edits{{Site::parse("layers.1"), Edit(terms)},
                                      {Site::parse("layers.2.up:input"), Edit(terms)},
                                      {Site::parse("layers.1"), Edit({Term::add(kU)})}};
    Module baked = bake(module, edits, 0.7), loaded = reloaded(baked);
    for (const double c : {0.7, -3.0, 0.1, 0.0}) {
      const at::Tensor expected = c == 0 ? plain : hooked(module, edits, c, {x}).toTensor();
      for (Module* each : {&baked, &loaded}) {
        if (c != 0.7) each->run_method("set_coefficient", c);
        for (int run = 0; run < 3; ++run) CHECK(same(each->forward({x}).toTensor(), expected));
      }
    }
    CHECK(same(module.forward({x}).toTensor(), plain));  // the original is untouched
  };
  for (const auto type : {at::kFloat, at::kBFloat16, at::kHalf})
    compare(type, everything().terms());
  const Edit edit = everything();
  for (const Term& term : edit.terms()) compare(at::kFloat, {term});
}

/// Terms with and without conditions, of rows of x or of a readout's columns.
std::vector<Term> conditional_terms(bool columns) {
  const auto place = [&](const at::Tensor& reader) { return columns ? at::Tensor() : reader; };
  const auto column = [&](int64_t i) { return columns ? i : -1; };
  const Condition condition{.reader = place(kU), .bias = -0.2, .column = column(0)};
  return {
      {.gate = {.constant = 2}, .writer = kVector},
      {.reader = place(kVector),
       .bias = 0.5,
       .gate = {.rectified = 3, .step = -1},
       .writer = kU,
       .condition = condition,
       .column = column(1)},
      {.gate = {.constant = 1.5}, .writer = kVector, .condition = condition},
      {.reader = place(kVector), .gate = {.linear = -0.5}, .writer = kVector, .column = column(1)},
      {.writer = kU}};
}

TEST_CASE("[core.bake] conditions and readouts: baked equals hooked bit for bit, reloaded too") {
  const at::NoGradGuard no_grad;
  const Module module = test::stack();
  std::vector<Edit> edits{Edit(conditional_terms(false)), Edit({{.writer = kVector}}),
                          Edit({{.writer = kVector}}, test::readout(true, true)),
                          Edit({Term::add(kVector)}, test::readout(true, false))};
  for (const bool spread : {false, true})
    for (const bool base : {false, true})
      edits.emplace_back(conditional_terms(true), test::readout(spread, base));
  for (const Edit& edit : edits) {
    const std::vector<SiteEdit> at_sites{{Site::parse("layers.1"), edit},
                                         {Site::parse("layers.2.up:input"), edit}};
    Module baked = bake(module, at_sites, 0.7), loaded = reloaded(baked);
    for (const double c : {0.7, -3.0, 0.0}) {
      const at::Tensor expected = hooked(module, at_sites, c, {kActivations}).toTensor();
      for (Module* each : {&baked, &loaded}) {
        each->run_method("set_coefficient", c);
        for (int run = 0; run < 3; ++run)
          CHECK(same(each->forward({kActivations}).toTensor(), expected));
      }
    }
  }
}

TEST_CASE("[core.bake] an adjustable edit's gates can be given anew") {
  const at::NoGradGuard no_grad;
  const Module module = test::stack();
  for (const bool columns : {false, true}) {
    std::vector<Term> terms = conditional_terms(columns);
    terms.pop_back();  // the one without a gate
    const auto readout = columns ? std::optional(test::readout(true, true)) : std::nullopt;
    const Edit edit(terms, readout);
    const Site site = Site::parse("layers.1");
    Module baked =
        bake(module, {{Site::parse("head"), Edit({Term::add(kU)})}, {site, edit}}, 1, {1});
    const auto expected = [&](const std::vector<Term>& now) {
      return hooked(module,
                    {{Site::parse("head"), Edit({Term::add(kU)})}, {site, Edit(now, readout)}}, 1,
                    {kActivations})
          .toTensor();
    };
    CHECK(same(baked.forward({kActivations}).toTensor(), expected(terms)));
    const std::vector<Gate> gates{{.constant = -1},
                                  {.constant = 1, .linear = 2, .rectified = -1, .step = 0.1},
                                  {.constant = 7},
                                  {.step = 4}};
    for (size_t k = 0; k < gates.size(); ++k) {
      const Gate& gate = terms[k].gate = gates[k];
      baked.get_method("set_gate")(
          {1, static_cast<int64_t>(k),
           std::vector<double>{gate.constant, gate.linear, gate.rectified, gate.step}});
      CHECK(same(reloaded(baked).forward({kActivations}).toTensor(), expected(terms)));
    }
    const at::Tensor untouched = edit.apply(kActivations);
    terms = conditional_terms(columns);
    terms.pop_back();
    CHECK(same(untouched, Edit(terms, readout).apply(kActivations)));  // the edit's own table
  }
}

TEST_CASE("[core.bake] tuples, dicts, lists and optionals are edited at their first tensor") {
  const at::NoGradGuard no_grad;
  const std::vector<std::pair<const char*, const char*>> kinds{
      {"Tuple[Tensor, Tensor]", "(x, x * 2)"},
      {"Tuple[int, Tuple[Tensor, Optional[Tensor]]]", "(1, (x, None))"},
      {"Dict[str, Tensor]", "{'hidden': x, 'twice': x * 2}"},
      {"List[Tensor]", "[x, x * 2]"},
      {"Optional[Tensor]", "x"},
      {"Tuple[int, Optional[Tensor]]", "(3, x)"},
  };
  for (const auto& [type, value] : kinds) {
    CAPTURE(type);
    Module module("M");
    module.define(std::string("def forward(self, x: Tensor) -> ") + type + ":\n    return " +
                  value + "\n");
    const std::vector<SiteEdit> edits{{Site::parse(""), everything()}};
    Module baked = bake(module, edits);
    for (int run = 0; run < 3; ++run)
      CHECK(same_value(baked.forward({kActivations}), hooked(module, edits, 1, {kActivations})));
    CHECK_FALSE(same_value(baked.forward({kActivations}), module.forward({kActivations})));
    baked.run_method("set_coefficient", 0.0);
    CHECK(same_value(baked.forward({kActivations}), module.forward({kActivations})));
  }
}

TEST_CASE("[core.bake] an optional that is None, and an empty list, pass") {
  const at::NoGradGuard no_grad;
  Module module("M");
  module.define(
      "def forward(self, x: Tensor, flag: bool) -> Optional[Tensor]:\n"
      "    if flag:\n"
      "        return x\n"
      "    return None\n");
  Module baked = bake(module, {{Site::parse(""), Edit({Term::add(kVector)})}});
  CHECK(baked.forward({kActivations, false}).isNone());
  CHECK(same(baked.forward({kActivations, true}).toTensor(), kActivations + kVector));
}

TEST_CASE("[core.bake] what has no first tensor that types decide is refused with its site") {
  const auto error_for = [](const char* type, const char* value) {
    Module module("M");
    module.define(std::string("def maybe(self, x: Tensor) -> Optional[Tensor]:\n    return x\ndef "
                              "forward(self, x: Tensor) -> ") +
                  type + ":\n    return " + value + "\n");
    return error_of([&] { bake(module, {{Site::parse(""), Edit({Term::add(kVector)})}}); });
  };
  CHECK(error_for("int", "3") ==
        "M: :output: found a value of type int, which holds no tensor; hook the site instead of "
        "baking it, or choose another");
  CHECK(contains(error_for("Tuple[Optional[Tensor], Tensor]", "(self.maybe(x), x)"),
                 "depends on the run which one is first"));
  CHECK(contains(error_for("List[Tuple[Tensor, Tensor]]", "[(x, x)]"), "lie too deep"));
  CHECK(contains(error_for("Tuple[int, str]", "(1, 'a')"), "holds no tensor"));
}

TEST_CASE("[core.bake] shared submodules are edited at every call, traced second calls too") {
  const at::NoGradGuard no_grad;
  Module shared = test::linear(1);
  shared.define("def forward1(self, x: Tensor) -> Tensor:\n    return torch.relu(x)\n");
  const Module module = test::parent("Root", {{"a", shared}, {"b", shared}},
                                     "def forward(self, x: Tensor) -> Tensor:\n"
                                     "    return self.b.forward1(self.a.forward(x))\n");
  const std::vector<SiteEdit> edits{{Site::parse("b"), everything()}};
  CHECK(same(bake(module, edits).forward({kActivations}).toTensor(),
             hooked(module, edits, 1, {kActivations}).toTensor()));
}

TEST_CASE("[core.bake] images [n, c, h, w] are refused as a hooked edit refuses them") {
  const at::NoGradGuard no_grad;
  const std::vector<SiteEdit> edits{{Site::parse("head"), Edit({Term::add(kVector)})}};
  const at::Tensor images = random({2, 4, 4, 4}, 3);  // [n, c, h, w], c = w
  const std::string found = error_of([&] { hooked(test::stack(), edits, 1, {images}); });
  CHECK(contains(found, "head:output: the activation is [2, 4, 4, 4], expected at most 3"));
  Module baked = bake(test::stack(), edits);
  CHECK(contains(error_of([&] { HookedModule(baked).forward({images}); }),
                 "the activation has 4 dimensions, expected at most 3"));
  CHECK_NOTHROW(HookedModule(baked).forward({images[0]}));
}

TEST_CASE("[core.bake] what could not be loaded again, or would run before a hook, is refused") {
  const Edit edit({Term::add(kVector)});
  Module own = test::linear(1);
  own.define(
      "def __getstate__(self) -> Tuple[Tensor, Tensor]:\n    return self.weight, self.bias\n"
      "def __setstate__(self, state: Tuple[Tensor, Tensor]) -> None:\n"
      "    self.weight = state[0]\n    self.bias = state[1]\n");
  const Module root = test::parent("Root", {{"own", own}, {"lin", test::linear(2)}},
                                   "def forward(self, x: Tensor) -> Tensor:\n"
                                   "    return self.lin.forward(self.own.forward(x))\n");
  CHECK(contains(error_of([&] {
                   bake(root, {{Site::parse("own"), edit}});
                 }),
                 "Root: own:output: Linear has a method __setstate__, which would not set"));
  CHECK_NOTHROW(bake(root, {{Site::parse("lin"), edit}}));
  Module hooked_root = test::parent("Hooked", {{"lin", test::linear(1)}},
                                    "def forward(self, x: Tensor) -> Tensor:\n"
                                    "    return self.lin.forward(x)\n"
                                    "def after(self, inputs: Tuple[Tensor], output: Tensor) -> "
                                    "Tensor:\n    return output * 2\n");
  hooked_root.type()->addForwardHook(test::hook_of(hooked_root, "after"));
  CHECK(contains(error_of([&] {
                   bake(hooked_root, {{Site::parse(":output"), edit}});
                 }),
                 "would run behind the edit"));
  CHECK_NOTHROW(bake(hooked_root, {{Site::parse("lin"), edit}}));
}

TEST_CASE("[core.bake] mistakes name the module, the site and the nearest") {
  const Module module = test::stack();
  const Edit edit({Term::add(kVector)});
  CHECK(contains(error_of([&] {
                   bake(module, {{Site::parse("layers.7"), edit}});
                 }),
                 "Stack: no site layers.7:output; the nearest are layers.0:output"));
  CHECK(contains(error_of([&] {
                   bake(module, {{Site::parse("layers"), edit}});
                 }),
                 "no site layers:output"));
  CHECK(error_of([&] { bake(module, {}); }) == "Stack: found no edit to bake");
  CHECK(contains(error_of([&] {
                   bake(module, {{Site::parse("head"), edit}}, INFINITY);
                 }),
                 "expected a finite one"));
  const Module baked = bake(module, {{Site::parse("head"), edit}});
  CHECK(contains(error_of([&] {
                   bake(baked, {{Site::parse("head"), edit}});
                 }),
                 "has a method set_coefficient already"));
}

}  // namespace
}  // namespace vyx
