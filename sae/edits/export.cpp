#include "sae/edits/export.h"

#include <ATen/Functions.h>
#include <fmt/format.h>
#include <torch/csrc/jit/api/compilation_unit.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>

#include "core/base/error.h"

namespace vyx::sae {
namespace {

// Each of these fills in one step of the program; numbers as dtypes are TorchScript's own: 6 is
// float32. What they compute is what autoencoder.cpp computes, in the same order.
struct Normalizer {
  const char* normalize;  // x → x'
  const char* spread;     // x → [.., 1]: x̂ = x̂'·spread + center
  const char* restore;    // x̂' → x̂, knowing x
};

Normalizer normalizer(Normalization normalization) {
  switch (normalization) {
    case Normalization::token_norm:
      return {"    return x / self.spread(x)\n",
              "    return torch.clamp(torch.norm(x, 2, [-1], True) / self.root_width, 1e-12)\n",
              "    return y * self.spread(x)\n"};
    case Normalization::layer_norm:
      return {"    return (x - torch.mean(x, [-1], True)) / (self.spread(x) + 1e-5)\n",
              "    return torch.std(x, [-1], True, True)\n",
              "    return y * self.spread(x) + torch.mean(x, [-1], True)\n"};
    default:
      return {"    return x\n", "    return torch.ones_like(x[..., :1])\n", "    return y\n"};
  }
}

bool is_per_token(Normalization normalization) {
  return normalization == Normalization::token_norm || normalization == Normalization::layer_norm;
}

const char* activation(Architecture architecture) {
  switch (architecture) {
    case Architecture::gated:
      return "    product = torch.linear(x, self.W_enc)\n"
             "    magnitude = product * torch.exp(self.r_mag) + self.b_mag\n"
             "    return torch.relu(magnitude) * torch.gt(product + self.b_gate, 0)\n";
    case Architecture::topk:
      return "    z = torch.linear(x, self.W_enc, self.b_enc)\n"
             "    values, indices = torch.topk(z, self.k, -1)\n"
             "    return torch.scatter(torch.zeros_like(z), -1, indices, torch.relu(values))\n";
    case Architecture::batch_topk:
    case Architecture::jump_relu:
      return "    z = torch.linear(x, self.W_enc, self.b_enc)\n"
             "    return z * torch.gt(z, self.threshold)\n";
    default:
      return "    return torch.relu(torch.linear(x, self.W_enc, self.b_enc))\n";
  }
}

std::string source(const Autoencoder& sae) {
  const AutoencoderConfig& config = sae.config;
  const auto [normalize, spread, restore] = normalizer(config.normalization);
  const bool skip = sae.weights.skip.defined();
  const bool needs_x = skip || config.normalization != Normalization::none;
  std::string out = fmt::format("def spread(self, x: Tensor) -> Tensor:\n{}\n", spread);
  out += fmt::format("def normalize(self, x: Tensor) -> Tensor:\n{}\n", normalize);
  out += fmt::format("def restore(self, y: Tensor, x: Tensor) -> Tensor:\n{}\n", restore);
  out += fmt::format("def activate(self, x: Tensor) -> Tensor:\n{}\n",
                     activation(config.architecture));
  out += fmt::format(
      "def encode(self, x: Tensor) -> Tensor:\n"
      "    return self.activate(self.normalize(x.to(6)){})\n\n",
      config.subtract_decoder_bias ? " - self.b_dec" : "");
  out +=
      "def decode(self, f: Tensor, x: Optional[Tensor] = None) -> Tensor:\n"
      "    y = torch.matmul(f, self.W_dec) + self.b_dec\n";
  if (needs_x)
    out +=
        "    assert x is not None, \"this autoencoder's decode needs x: decode(f, x)\"\n"
        "    x = x.to(6)\n";
  if (skip) out += "    y = y + torch.linear(self.normalize(x), self.W_skip)\n";
  out += needs_x ? "    return self.restore(y, x)\n\n" : "    return y\n\n";
  out +=
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
  return out;
}

/// An autoencoder of some of the latents of one in which they do not depend on each other.
Autoencoder choose_latents(Autoencoder sae, const at::Tensor& latents) {  // [chosen] int64
  sae.config.latents = latents.size(0);
  sae.config.k = 1;
  sae.config.prefixes.clear();
  Parameters& w = sae.weights;
  for (at::Tensor* each : {&w.encoder, &w.encoder_bias, &w.decoder, &w.magnitude_scale,
                           &w.magnitude_bias, &w.threshold})
    if (each->defined()) *each = each->index_select(0, latents);
  return sae;
}

}  // namespace

torch::jit::Module export_script(const Autoencoder& given) {
  validate(given, "export");
  const Autoencoder sae = fold_scale(given);
  const AutoencoderConfig& config = sae.config;
  torch::jit::Module module("vyx.Autoencoder", std::make_shared<torch::jit::CompilationUnit>());
  module.register_attribute("training", c10::BoolType::get(), false);
  sae.weights.visit([&](const std::string& name, const at::Tensor& tensor) {
    const bool gate = config.architecture == Architecture::gated && name == "b_enc";
    module.register_parameter(gate ? "b_gate" : name, tensor, false);
  });
  if (config.architecture == Architecture::batch_topk)
    module.register_buffer(
        "threshold", at::full({config.latents}, std::max(sae.topk_threshold, 0.0), at::kFloat));
  if (config.architecture == Architecture::topk)
    module.register_attribute("k", c10::IntType::get(), config.k);
  if (config.normalization == Normalization::token_norm)
    module.register_attribute("root_width", c10::FloatType::get(),
                              std::sqrt(static_cast<double>(config.d_in)));
  module.register_attribute("set_values",
                            c10::DictType::create(c10::IntType::get(), c10::FloatType::get()),
                            c10::Dict<int64_t, double>());
  module.define(source(sae));
  return module;
}

Readout export_readout(const Autoencoder& sae, const ReadoutOptions& options) {
  const bool whole = options.reconstruction || sae.config.architecture == Architecture::topk;
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
