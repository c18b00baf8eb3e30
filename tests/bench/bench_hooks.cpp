// What hooks cost, in one interleaved run: an idle tap, hooks, and an instrumented forward beside a
// plain one.
//
//     bench-hooks [--json]
//
// One thread, and its processor time: ratios near 1 would drown in what else runs on the machine.
#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <torch/script.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <functional>
#include <string>
#include <vector>

#include "core/edits/attached_edit.h"
#include "core/edits/edit.h"
#include "core/hooks/hooked_module.h"

namespace {

using c10::IValue;
using torch::jit::Module;

double processor_seconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

double seconds_of(const std::function<void()>& work, int repeats) {
  const double start = processor_seconds();
  for (int i = 0; i < repeats; ++i) work();
  return (processor_seconds() - start) / repeats;
}

/// The least time of each, measured in turns, so that all see the same machine.
std::vector<double> least_times(const std::vector<std::function<void()>>& works, int rounds,
                                int repeats) {
  std::vector<double> least(works.size(), 1e300);
  for (const auto& work : works) seconds_of(work, 4);  // past the profiling runs
  for (int round = 0; round < rounds; ++round) {
    for (size_t i = 0; i < works.size(); ++i)
      least[i] = std::min(least[i], seconds_of(works[i], repeats));
  }
  return least;
}

/// `length` submodules that return their first argument.
Module identities(int length, const std::string& parameters, const std::string& arguments) {
  Module root("Chain");
  Module identity("Identity");
  identity.define(fmt::format("def forward(self, {}) -> Tensor:\n    return x\n", parameters));
  std::string source = "def forward(self, x: Tensor) -> Tensor:\n";
  for (int i = 0; i < length; ++i) {
    root.register_module(fmt::format("m{}", i), identity.deepcopy());
    source += fmt::format("    x = self.m{}.forward({})\n", i, arguments);
  }
  root.define(source + "    return x\n");
  return root;
}

Module linear(int64_t from, int64_t to) {
  Module module("Linear");
  module.register_parameter("weight", at::randn({to, from}) / 24, false);
  module.define(
      "def forward(self, x: Tensor) -> Tensor:\n    return torch.linear(x, self.weight)\n");
  return module;
}

Module norm(int64_t width) {
  Module module("Norm");
  module.register_parameter("weight", at::ones({width}), false);
  module.define(
      "def forward(self, x: Tensor) -> Tensor:\n"
      "    return torch.rms_norm(x, [x.size(-1)], self.weight, 1e-5)\n");
  return module;
}

/// SmolLM2's shape without embeddings and positions: 30 layers, 576 wide, 9 heads of which 3 are of
/// keys and values.
Module llama() {
  Module attention("Attention");
  attention.register_module("q_proj", linear(576, 576));
  attention.register_module("k_proj", linear(576, 192));
  attention.register_module("v_proj", linear(576, 192));
  attention.register_module("o_proj", linear(576, 576));
  attention.define(
      "def forward(self, x: Tensor) -> Tensor:\n"
      "    b, t = x.size(0), x.size(1)\n"
      "    q = self.q_proj.forward(x).view([b, t, 9, 64]).transpose(1, 2)\n"
      "    k = self.k_proj.forward(x).view([b, t, 3, 64]).transpose(1, 2)\n"
      "    v = self.v_proj.forward(x).view([b, t, 3, 64]).transpose(1, 2)\n"
      "    y = torch.scaled_dot_product_attention(q, k, v, None, 0.0, True, enable_gqa=True)\n"
      "    return self.o_proj.forward(y.transpose(1, 2).reshape([b, t, 576]))\n");
  Module mlp("MLP");
  mlp.register_module("gate_proj", linear(576, 1536));
  mlp.register_module("up_proj", linear(576, 1536));
  mlp.register_module("down_proj", linear(1536, 576));
  mlp.define(
      "def forward(self, x: Tensor) -> Tensor:\n"
      "    return self.down_proj.forward(torch.silu(self.gate_proj.forward(x)) * "
      "self.up_proj.forward(x))\n");
  Module layer("Layer");
  layer.register_module("input_layernorm", norm(576));
  layer.register_module("self_attn", attention);
  layer.register_module("post_attention_layernorm", norm(576));
  layer.register_module("mlp", mlp);
  layer.define(
      "def forward(self, x: Tensor) -> Tensor:\n"
      "    x = x + self.self_attn.forward(self.input_layernorm.forward(x))\n"
      "    return x + self.mlp.forward(self.post_attention_layernorm.forward(x))\n");
  Module layers("Layers");
  Module root("Llama");
  std::string source = "def forward(self, x: Tensor) -> Tensor:\n";
  for (int i = 0; i < 30; ++i) {
    layers.register_module(std::to_string(i), layer.deepcopy());
    source += fmt::format("    x = getattr(self.layers, \"{}\").forward(x)\n", i);
  }
  root.register_module("layers", layers);
  root.define(source + "    return x\n");
  return root;
}

struct Figure {
  const char* key;
  const char* meaning;
  double value;
};

std::vector<Figure> measure() {
  constexpr int kLength = 500;
  const torch::NoGradGuard no_grad;
  const at::Tensor x = at::randn({4});
  const auto chain = [&](const char* parameters, const char* arguments) {
    return identities(kLength, parameters, arguments);
  };
  Module plain = chain("x: Tensor", "x");
  const Module three = chain("x: Tensor, n: int, y: Optional[Tensor]", "x, 1, None");
  vyx::HookedModule idle(plain), idle_three(three), output(plain), input(plain), replaced(plain),
      edited(plain);
  const auto empty = [](const vyx::Site&, const IValue&) -> std::optional<IValue> {
    return std::nullopt;
  };
  const auto same = [](const vyx::Site&, const IValue& value) -> std::optional<IValue> {
    return value;
  };
  const vyx::HookHandle at_outputs = output.hook("m*", empty),
                        at_inputs = input.hook("m*:input", empty),
                        replaces = replaced.hook("m*", same);
  const vyx::Edit add({vyx::Term::add(at::randn({576}))});
  const at::Tensor token = at::randn({1, 1, 576}), prompt = at::randn({1, 64, 576});
  std::vector<vyx::AttachedEdit> edits;
  for (int i = 0; i < kLength; ++i)
    edits.push_back(attach(edited, {fmt::format("m{}", i), vyx::Port::output}, add));
  const auto t = least_times(
      {[&] { plain.forward({x}); }, [&] { idle.forward({x}); }, [&] { idle_three.forward({x}); },
       [&] { output.forward({x}); }, [&] { input.forward({x}); }, [&] { replaced.forward({x}); },
       [&] { edited.forward({token}); }},
      30, 50);
  const auto ns = [&](size_t with, size_t without) {
    return (t[with] - t[without]) / kLength * 1e9;
  };

  Module model = llama();
  vyx::HookedModule instrumented(model), steered(model);
  for (int layer = 8; layer < 21; ++layer) {
    edits.push_back(attach(steered, {fmt::format("layers.{}", layer), vyx::Port::output}, add));
  }
  const auto ratios = [&](const at::Tensor& hidden, int rounds, int repeats) {
    return least_times({[&] { model.forward({hidden}); }, [&] { instrumented.forward({hidden}); },
                        [&] { steered.forward({hidden}); }},
                       rounds, repeats);
  };
  const auto decode = ratios(token, 40, 1), prefill = ratios(prompt, 10, 1);
  return {
      {"idle_tap_ns", "idle tap (mean of input and output, one argument)", ns(1, 0) / 2},
      {"idle_taps_three_arguments_ns", "idle taps of a submodule with three arguments, both",
       ns(2, 0)},
      {"empty_output_hook_ns", "empty hook at an output, above idle", ns(3, 1)},
      {"empty_input_hook_ns", "empty hook at an input, above idle", ns(4, 1)},
      {"replacement_ns", "replacement at an output, above idle", ns(5, 1)},
      {"edit_ns", "a vector of 576 added at an output, above idle", ns(6, 1)},
      {"decode_ms", "30 layers × 576, one token, plain, ms", decode[0] * 1e3},
      {"decode_instrumented_ratio", "  instrumented, unhooked / plain", decode[1] / decode[0]},
      {"decode_steered_ratio", "  13 layers steered / plain", decode[2] / decode[0]},
      {"prefill_ms", "30 layers × 576, 64 tokens, plain, ms", prefill[0] * 1e3},
      {"prefill_instrumented_ratio", "  instrumented, unhooked / plain", prefill[1] / prefill[0]},
      {"prefill_steered_ratio", "  13 layers steered / plain", prefill[2] / prefill[0]},
  };
}

}  // namespace

int main(int argc, char** argv) {
  at::set_num_threads(1);
  const bool json = argc > 1 && std::string(argv[1]) == "--json";
  const auto figures = measure();
  if (json) std::printf("{");
  for (size_t i = 0; i < figures.size(); ++i) {
    if (json) {
      std::printf("%s\"%s\": %.6g", i ? ", " : "", figures[i].key, figures[i].value);
    } else {
      std::printf("%-52s %10.4g\n", figures[i].meaning, figures[i].value);
    }
  }
  if (json) std::printf("}\n");
}
