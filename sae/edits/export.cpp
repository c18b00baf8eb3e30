#include "sae/edits/export.h"

#include <ATen/Functions.h>
#include <torch/csrc/jit/api/compilation_unit.h>

#include <memory>
#include <string>

#include "sae/autoencoder/formulas.h"

namespace vyx::sae {
namespace {

// Beside encode and decode (autoencoder/formulas.h).
constexpr const char* kMethods =
    "def forward(self, x: Tensor) -> Tensor:\n"
    "    return self.decode(self.encode(x), x)\n\n"
    "def set_latent(self, i: int, value: float) -> None:\n"
    "    assert 0 <= i and i < self.W_dec.size(0), \"this autoencoder has latents 0 to \" + "
    "str(self.W_dec.size(0) - 1)\n"
    "    self.set_values[i] = value\n\n"
    "def clear_latents(self) -> None:\n"
    "    self.set_values.clear()\n\n"
    "def implicit_vector(self, x: Tensor) -> Tensor:\n"
    "    x = x.to(6)\n"
    "    f = self.encode(x)\n"
    "    v = torch.zeros(x.size()[:-1] + [self.W_dec.size(1)], dtype=x.dtype, device=x.device)\n"
    "    for i, value in self.set_values.items():\n"
    "        v = v + torch.unsqueeze(value - f[..., i], -1) * self.W_dec[i]\n"
    "    return v * self.spread(x)\n";

/// An autoencoder of some of the latents of one in which they do not depend on each other.
Autoencoder choose_latents(Autoencoder sae, const at::Tensor& latents) {  // [chosen] int64
  sae.config.latents = latents.size(0);
  sae.config.k = 1;
  sae.config.prefixes.clear();
  for_each_parameter(
      [&](const ParameterKind& kind, at::Tensor& tensor) {
        if (tensor.defined() && is_per_latent(kind)) tensor = tensor.index_select(0, latents);
      },
      sae.weights);
  return sae;
}

}  // namespace

torch::jit::Module export_script(const Autoencoder& given) {
  validate(given, "export");
  const Autoencoder sae = fold_scale(given);
  torch::jit::Module module = formula_module(sae, "vyx.Autoencoder");
  module.register_attribute("set_values",
                            c10::DictType::create(c10::IntType::get(), c10::FloatType::get()),
                            c10::Dict<int64_t, double>());
  module.define(kMethods);
  return module;
}

Readout export_readout(const Autoencoder& sae, const ReadoutOptions& options) {
  const bool whole = options.reconstruction || traits_of(sae.config.architecture).latents_compete;
  const at::Tensor latents =
      at::tensor(options.latents, at::kLong).to(sae.weights.encoder.device());
  torch::jit::Module module("vyx.Readout", std::make_shared<torch::jit::CompilationUnit>());
  module.register_attribute("training", c10::BoolType::get(), false);
  module.register_module("autoencoder", export_script(whole ? sae : choose_latents(sae, latents)));
  std::string out =
      "def forward(self, x: Tensor) -> Tuple[Tensor, Optional[Tensor], Optional[Tensor]]:\n"
      "    x = x.to(6)\n"
      "    f = self.autoencoder.encode(x)\n"
      "    spread: Optional[Tensor] = None\n"
      "    base: Optional[Tensor] = None\n";
  if (is_per_token(sae.config.normalization)) out += "    spread = self.autoencoder.spread(x)\n";
  if (options.reconstruction) out += "    base = self.autoencoder.decode(f, x) - x\n";
  if (whole) {
    module.register_buffer("latents", latents);
    out += "    f = torch.index_select(f, -1, self.latents)\n";
  }
  if (options.directions.defined()) {
    module.register_buffer("directions", options.directions.to(latents.device(), at::kFloat));
    out += "    f = torch.cat([f, torch.linear(x, self.directions)], -1)\n";
  }
  module.define(out + "    return f, spread, base\n");
  const int64_t directions = options.directions.defined() ? options.directions.size(0) : 0;
  return {module, latents.size(0) + directions};
}

}  // namespace vyx::sae
