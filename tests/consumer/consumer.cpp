// A hook on a module, an edit, and a baked export: what is saved gives what the edited module gave.
#include <ATen/Functions.h>
#include <fmt/format.h>

#include "core/base/version.h"
#include "core/edits/attached_edit.h"
#include "core/edits/bake.h"
#include "core/hooks/hooked_module.h"
#include "core/hooks/script_archive.h"

int main() {
  torch::jit::Module block("Block"), net("Net");
  block.define("def forward(self, x):\n    return 2 * x\n");
  net.register_module("block", block);
  net.define("def forward(self, x):\n    return self.block.forward(x)\n");

  vyx::HookedModule module(net);
  const auto hook = module.hook("block", [](const vyx::Site& site, const c10::IValue& value) {
    fmt::print("vyx {}: {} is {}\n", vyx::kVersion, site.name(),
               value.toTensor().sum().item<double>());
    return std::optional<c10::IValue>();  // or a value to go on with
  });

  const vyx::Site site = vyx::Site::parse("block");
  const vyx::Edit edit({vyx::Term::add(at::ones({4}))});
  const auto attached = vyx::attach(module, site, edit, {.coefficients = at::scalar_tensor(3.0)});
  const at::Tensor x = at::ones({2, 4});                     // [rows, d]
  const at::Tensor edited = module.forward({x}).toTensor();  // [rows, d]

  vyx::save_script(vyx::bake(net, {{site, edit}}, 3.0), "baked.pt");
  torch::jit::Module baked = vyx::load_script("baked.pt").module;
  const bool same = at::equal(baked.forward({x}).toTensor(), edited);
  fmt::print("edited to {}; baked: {}\n", edited.sum().item<double>(),
             same ? "the same" : "NOT the same");
  return same ? 0 : 1;
}
