#include "sae/autoencoder/formulas.h"

#include <ATen/Functions.h>
#include <fmt/format.h>
#include <torch/csrc/jit/api/compilation_unit.h>
#include <torch/csrc/jit/runtime/graph_executor.h>

#include <cmath>
#include <map>
#include <memory>
#include <mutex>
#include <tuple>
#include <utility>

#include "core/base/error.h"
#include "core/hooks/script_error.h"

namespace vyx::sae {
namespace {

using torch::jit::Module;

// f of x' − b_dec. An architecture's formula stands here and, with its gradients, in objectives/.
const char* activation(Architecture architecture) {
  switch (architecture) {
    case Architecture::relu:
      return "    return torch.relu(torch.linear(x, self.W_enc, self.b_enc))\n";
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
      break;
  }
  return "    z = torch.linear(x, self.W_enc, self.b_enc)\n"
         "    return z * torch.gt(z, self.threshold)\n";
}

struct Normalizer {
  const char* normalize;  // x → x'
  const char* spread;     // x → [.., 1]: x̂ = x̂'·spread + center
  const char* restore;    // x̂' → x̂, knowing x
};

Normalizer normalizer(Normalization normalization) {
  switch (normalization) {
    case Normalization::token_norm:  // a token of zeros stays one
      return {"    return x / self.spread(x)\n",
              "    return torch.clamp(torch.norm(x, 2, [-1], True) / self.root_width, 1e-12)\n",
              "    return y * self.spread(x)\n"};
    case Normalization::layer_norm:  // eps on the way in alone, as OpenAI and SAELens
      return {"    return (x - torch.mean(x, [-1], True)) / (self.spread(x) + 1e-5)\n",
              "    return torch.std(x, [-1], True, True)\n",
              "    return y * self.spread(x) + torch.mean(x, [-1], True)\n"};
    case Normalization::none:
    case Normalization::scale:
      break;
  }
  return {"    return x\n", "    return torch.ones_like(x[..., :1])\n", "    return y\n"};
}

// Numbers as dtypes are TorchScript's own: 6 is float32.
std::string source(const Autoencoder& sae) {
  const AutoencoderConfig& config = sae.config;
  const auto [normalize, spread, restore] = normalizer(config.normalization);
  const bool skip = sae.weights.skip.defined();
  const bool needs_x = skip || is_per_token(config.normalization);
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
  out += needs_x ? "    return self.restore(y, x)\n" : "    return y\n";
  return out;
}

struct Attribute {
  enum class Role { parameter, buffer, number };
  std::string name;
  Role role;
  c10::IValue value;
};

// What the source reads, in the order of the class.
std::vector<Attribute> attributes_of(const Autoencoder& sae) {
  using Role = Attribute::Role;
  const AutoencoderConfig& config = sae.config;
  const ArchitectureTraits& traits = traits_of(config.architecture);
  std::vector<Attribute> attributes{{"training", Role::number, false}};
  for_each_parameter(
      [&](const ParameterKind& kind, const at::Tensor& tensor) {
        if (kind.optional ? tensor.defined() : belongs_to(kind, config.architecture))
          attributes.push_back(
              {published_name(kind, config.architecture), Role::parameter, tensor});
      },
      sae.weights);
  if (traits.has_batch_threshold)
    attributes.push_back({"threshold", Role::buffer, thresholds(sae)});
  if (traits.has_k && !traits.has_batch_threshold)
    attributes.push_back({"k", Role::number, config.k});
  if (config.normalization == Normalization::token_norm)
    attributes.push_back({"root_width", Role::number, std::sqrt(static_cast<double>(config.d_in))});
  return attributes;
}

// All that the source depends on, and which attributes there are.
using Kind = std::tuple<Architecture, Normalization, bool, bool>;

c10::StrongTypePtr class_of(const Autoencoder& sae) {
  static std::mutex mutex;
  static std::map<Kind, c10::StrongTypePtr> classes;
  const Kind kind{sae.config.architecture, sae.config.normalization,
                  sae.config.subtract_decoder_bias, sae.weights.skip.defined()};
  const std::lock_guard lock(mutex);
  auto found = classes.find(kind);
  if (found == classes.end()) {
    const Module module = formula_module(sae, "vyx.Formulas");
    found =
        classes
            .emplace(kind, c10::StrongTypePtr(module._ivalue()->compilation_unit(), module.type()))
            .first;
  }
  return found->second;
}

}  // namespace

Module formula_module(const Autoencoder& sae, const std::string& name) {
  Module module(name, std::make_shared<torch::jit::CompilationUnit>());
  for (const auto& [attribute, role, value] : attributes_of(sae)) {
    switch (role) {
      case Attribute::Role::parameter:
        module.register_parameter(attribute, value.toTensor(), /*is_buffer=*/false);
        break;
      case Attribute::Role::buffer:
        module.register_buffer(attribute, value.toTensor());
        break;
      case Attribute::Role::number:
        module.register_attribute(attribute, value.type(), value);
    }
  }
  module.define(source(sae));
  return module;
}

at::Tensor run_formula(const Autoencoder& sae, const char* method,
                       std::vector<c10::IValue> arguments) {
  const std::vector<Attribute> attributes = attributes_of(sae);
  const auto object = c10::ivalue::Object::create(class_of(sae), attributes.size());
  for (size_t slot = 0; slot < attributes.size(); ++slot)
    object->setSlot(slot, attributes[slot].value);
  // TorchScript's optimiser would compile anew for each shape, and might choose other operators.
  const torch::jit::GraphOptimizerEnabledGuard unoptimized(false);
  try {
    return Module(object).get_method(method)(std::move(arguments)).toTensor();
  } catch (const std::exception& error) {
    fail("autoencoder: {}: {}", method, reason_of(error));
  }
}

}  // namespace vyx::sae
