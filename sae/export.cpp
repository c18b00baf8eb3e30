#include "sae/export.h"

#include <ATen/Functions.h>
#include <fmt/format.h>
#include <torch/csrc/jit/api/compilation_unit.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>

#include "core/error.h"

namespace vyx::sae {
namespace {

// Each of these fills in one step of the program; numbers as dtypes are TorchScript's own: 6 is float32. What they compute is what
// autoencoder.cpp computes, in the same order.
struct Normalizer {
  const char* normalize;  // x → x'
  const char* restore;    // x̂' → x̂, knowing x
};

Normalizer normalizer(Normalization normalization) {
  switch (normalization) {
    case Normalization::token_norm:
      return {"    return x / (torch.norm(x, 2, [-1], True) / self.root_width)\n",
              "    return y * (torch.norm(x, 2, [-1], True) / self.root_width)\n"};
    case Normalization::layer_norm:
      return {"    return (x - torch.mean(x, [-1], True)) / (torch.std(x, [-1], True, True) + 1e-5)\n",
              "    return y * torch.std(x, [-1], True, True) + torch.mean(x, [-1], True)\n"};
    default:
      return {"    return x\n", "    return y\n"};
  }
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
  const auto [normalize, restore] = normalizer(config.normalization);
  const bool skip = sae.weights.skip.defined();
  const bool needs_x = skip || config.normalization != Normalization::none;
  std::string out = fmt::format("def normalize(self, x: Tensor) -> Tensor:\n{}\n", normalize);
  out += fmt::format("def restore(self, y: Tensor, x: Tensor) -> Tensor:\n{}\n", restore);
  out += fmt::format("def activate(self, x: Tensor) -> Tensor:\n{}\n", activation(config.architecture));
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
      "    return self.decode(self.encode(x), x)\n";
  return out;
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
    module.register_buffer("threshold", at::full({config.latents}, std::max(sae.topk_threshold, 0.0), at::kFloat));
  if (config.architecture == Architecture::topk) module.register_attribute("k", c10::IntType::get(), config.k);
  if (config.normalization == Normalization::token_norm)
    module.register_attribute("root_width", c10::FloatType::get(), std::sqrt(static_cast<double>(config.d_in)));
  module.define(source(sae));
  return module;
}

}  // namespace vyx::sae
