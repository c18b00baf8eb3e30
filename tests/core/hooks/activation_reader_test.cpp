#include "tests/core/hooks/script_fixtures.h"
// torch first
#include <ATen/core/grad_mode.h>

#include <array>
#include <atomic>
#include <thread>

#include "core/hooks/activation.h"
#include "core/hooks/activation_reader.h"

namespace vyx {
namespace {

using c10::IValue;
using namespace test;

const at::Tensor kOurs = random({2, 4}, 7), kTheirs = random({2, 4}, 8);
const std::array kReadSites = {Site::parse("layers.2"), Site::parse("layers.0:input"),
                               Site::parse("layers.2")};

std::vector<at::Tensor> read_sites(HookedModule& module, const at::Tensor& rows) {
  return read_once(module, kReadSites, tensor_at, [&] { module.forward({rows}); });
}

/// While it lives, the first run of `module` after its construction does `inside` when it has come
/// to the first block.
struct Interruption {
  Interruption(HookedModule& module, std::function<void()> inside)
      : handle(module.hook("layers.0.up", [this, inside](const Site&, const IValue&) {
          if (!done.exchange(true)) inside();
          return std::optional<IValue>();
        })) {}
  std::atomic<bool> done{false};
  HookHandle handle;
};

TEST_CASE("[core.activation_reader] gives a value per site, in the order of the sites") {
  const at::NoGradGuard no_grad;
  HookedModule module(test::stack());
  const auto expected = capture(module, "layers.2", {kOurs}).at("layers.2:output");
  const auto found = read_sites(module, kOurs);
  REQUIRE(found.size() == 3);
  CHECK(same(found[0], expected[0]));
  CHECK(found[1].is_same(kOurs));
  CHECK(found[2].is_same(found[0]));  // a site that is asked for twice is read once
}

TEST_CASE(
    "[core.activation_reader] neither another thread's run nor one that a hook starts is read") {
  const at::NoGradGuard no_grad;
  HookedModule module(test::stack());
  const auto expected = read_sites(module, kOurs), others = read_sites(module, kTheirs);
  for (const bool thread : {true, false}) {
    CAPTURE(thread);
    std::vector<at::Tensor> inner;
    const auto run = [&] {
      const at::NoGradGuard no_grad_here;
      module.forward({kTheirs});
      inner = read_sites(module, kTheirs);
    };
    const Interruption interruption(module, [&] {
      if (thread) {
        std::thread(run).join();
      } else {
        run();
      }
    });
    const auto found = read_sites(module, kOurs);
    REQUIRE(interruption.done);
    for (size_t i = 0; i < kReadSites.size(); ++i) {
      CHECK(same(found[i], expected[i]));
      CHECK(same(inner[i], others[i]));
    }
  }
}

TEST_CASE("[core.activation_reader] readers nest, and a reader may read several runs") {
  const at::NoGradGuard no_grad;
  HookedModule module(test::stack());
  std::vector<at::Tensor> inner;
  const auto calls = read_calls(module, kReadSites, tensor_at, [&] {
    module.forward({kOurs});
    inner = read_sites(module, kTheirs);
  });
  REQUIRE(calls[1].size() == 2);
  CHECK(calls[1][0].is_same(kOurs));
  CHECK(calls[1][1].is_same(kTheirs));
  CHECK(inner[1].is_same(kTheirs));
  CHECK(same(inner[0], calls[0][1]));
}

TEST_CASE("[core.activation_reader] a hook of one's own runs replaces in them alone") {
  const at::NoGradGuard no_grad;
  HookedModule module(test::stack());
  const Site head = Site::parse("head");
  const at::Tensor plain = module.forward({kOurs}).toTensor(), zeros = at::zeros({2, 4});
  at::Tensor other, replaced;
  const Interruption interruption(module, [&] {
    std::thread([&] {
      const at::NoGradGuard no_grad_here;
      other = module.forward({kOurs}).toTensor();
    }).join();
  });
  run_hooked(
      module, std::span(&head, 1),
      [&](const Site&, const IValue&) -> std::optional<IValue> { return zeros; },
      [&] { replaced = module.forward({kOurs}).toTensor(); });
  CHECK(same(replaced, zeros));
  CHECK(same(other, plain));
  CHECK(same(module.forward({kOurs}).toTensor(), plain));
}

TEST_CASE("[core.activation_reader] an exception leaves nothing of its run behind") {
  const at::NoGradGuard no_grad;
  HookedModule module(test::stack());
  const auto expected = read_sites(module, kOurs);
  const auto failing = [&](const Site& site, const IValue& value) {
    if (site.path == "layers.2") throw std::out_of_range("mine");
    return tensor_at(site, value);
  };
  CHECK_THROWS_AS(read_once(module, kReadSites, failing, [&] { module.forward({kTheirs}); }),
                  std::out_of_range);
  CHECK_THROWS_AS(read_sites(module, at::ones({2, 5})), Error);  // after layers.0:input
  CHECK_NOTHROW(module.harvest("forward", {at::ones({2, 5})}));  // nobody listens any more
  const auto found = read_sites(module, kOurs);
  for (size_t i = 0; i < kReadSites.size(); ++i) CHECK(same(found[i], expected[i]));
}

TEST_CASE("[core.activation_reader] a site that is never called, or twice, is named") {
  const at::NoGradGuard no_grad;
  HookedModule module(parent("Root", {{"never", linear(1)}, {"twice", linear(2)}},
                             "def forward(self, x: Tensor) -> Tensor:\n"
                             "    return self.twice.forward(self.twice.forward(x))\n"));
  const auto error = [&](const char* name) {
    const Site site = Site::parse(name);
    return error_of([&] {
      read_once(module, std::span(&site, 1), tensor_at, [&] { module.forward({kOurs}); });
    });
  };
  CHECK(error("never") == "never:output: the run never called this site; choose another");
  CHECK(error("twice:input") ==
        "twice:input: found 2 calls in one run, expected one; choose another site");
  CHECK(contains(error("other"), "no site other:output; the nearest are"));
}

TEST_CASE("[core.activation_reader] a value of another shape or type is named") {
  const Site site = Site::parse("a.b:input");
  const at::Tensor x = at::zeros({2, 3, 4});
  const std::array<int64_t, 2> tokens = {2, 3};
  CHECK(activation_at(site, IValue(x)).is_same(x));
  CHECK(activation_at(site, IValue(x), tokens).is_same(x));
  CHECK(tensor_at(site, c10::ivalue::Tuple::create(7, x)).is_same(x));
  CHECK(error_of([&] { tensor_at(site, 7); }) ==
        "a.b:input: found Int, expected a value that holds a tensor");
  CHECK(error_of([&] { activation_at(site, 7); }) ==
        "a.b:input: found no tensor, expected an activation [.., d] of floating point; choose "
        "another site");
  CHECK(error_of([&] {
          activation_at(site, at::zeros({2, 3}, at::kLong));
        }) ==
        "a.b:input: found shape [2, 3] of Long, expected an activation [.., d] of floating point; "
        "choose another site");
  CHECK(contains(error_of([&] {
                   activation_at(site, at::zeros({2, 3}, at::kComplexFloat));
                 }),
                 "found shape [2, 3] of ComplexFloat, expected an activation"));
  CHECK(contains(error_of([&] { activation_at(site, at::eye(3).to_sparse()); }),
                 "found shape [3, 3] in a sparse layout, expected an activation"));
  CHECK(error_of([&] {
          activation_at(site, at::zeros({4, 5, 6, 7}));
        }) ==
        "a.b:input: found shape [4, 5, 6, 7], expected at most 3 dimensions, [.., d]: of more it "
        "is not known which one holds the features; choose another site");
  CHECK(contains(error_of([&] { activation_at(site, at::zeros({})); }), "found shape []"));
  for (const at::Tensor& other : {at::zeros({2, 4}), at::zeros({3, 3, 4}), at::zeros({2, 2, 4}),
                                  at::zeros({2, 3, 4, 1}), at::zeros({2, 3, 4}, at::kLong)})
    CHECK(contains(error_of([&] { activation_at(site, other, tokens); }),
                   "expected an activation [batch, seq, d] = [2, 3, d]; choose another site"));
}

TEST_CASE("[core.activation_reader] a copy stays what it was when the module goes on in place") {
  const at::NoGradGuard no_grad;
  HookedModule module(parent("Root", {{"lin", linear(1)}},
                             "def forward(self, x: Tensor) -> Tensor:\n"
                             "    return self.lin.forward(x).mul_(0)\n"));
  const Site site = Site::parse("lin");
  const auto read_as = [&](const Keep& keep) {
    return read_once(module, std::span(&site, 1), keep, [&] { module.forward({kOurs}); })[0];
  };
  const auto copied = [](const Site&, const IValue& value) { return copy_of(value.toTensor()); };
  CHECK(same(read_as(copied), HookedModule(linear(1)).forward({kOurs}).toTensor()));
  CHECK(same(read_as(tensor_at), at::zeros({2, 4})));
}

TEST_CASE("[core.activation_reader] forked branches are read too") {
  const at::NoGradGuard no_grad;
  HookedModule module(test::forked());
  const std::array sites = {Site::parse("branch"), Site::parse("trunk")};
  for (int i = 0; i < 20; ++i) {
    at::Tensor sum;
    const auto found =
        read_once(module, sites, tensor_at, [&] { sum = module.forward({kOurs}).toTensor(); });
    CHECK(same(found[0] + found[1], sum));
  }
}

TEST_CASE(
    "[core.activation_reader] capture gives the tensors themselves, in order of calls, and names "
    "sites "
    "never reached") {
  const at::NoGradGuard no_grad;
  HookedModule module(test::stack());
  const auto captured = capture(module, "{layers.*,head}:input", {kOurs});
  REQUIRE(captured.size() == 4);
  CHECK(captured.at("layers.0:input").at(0).is_same(kOurs));
  const at::Tensor second = captured.at("layers.1:input").at(0);
  CHECK(same(capture(module, "layers.0", {kOurs}).at("layers.0:output").at(0), second));

  HookedModule branching(parent("Branching", {{"a", linear(1)}, {"b", linear(2)}},
                                "def forward(self, x: Tensor, flag: bool) -> Tensor:\n"
                                "    if flag:\n"
                                "        return self.a.forward(x)\n"
                                "    return self.b.forward(x)\n"));
  CHECK(error_of([&] {
          capture(branching, "*", {kOurs, true});
        }) == "b:output: forward never called this site");
}

TEST_CASE("[core.activation_reader] a capture takes its own run's values alone") {
  HookedModule module(test::stack());
  std::atomic<bool> stop{false};
  std::thread other([&] {
    const at::NoGradGuard no_grad;
    while (!stop) module.forward({at::zeros({1, 4})});
  });
  const at::NoGradGuard no_grad;
  for (int i = 0; i < 200; ++i) {
    const auto captured = capture(module, "layers.2", {kOurs}).at("layers.2:output");
    CHECK(captured.size() == 1);
    CHECK(captured.back().size(0) == 2);
  }
  stop = true;
  other.join();
}

}  // namespace
}  // namespace vyx
