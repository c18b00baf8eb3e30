#include "models/architectures/decoder.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <torch/csrc/jit/api/compilation_unit.h>

#include <cmath>
#include <map>
#include <memory>
#include <numbers>
#include <utility>

#include "models/architectures/decoder_script.h"

namespace vyx::models {
namespace {

/// Makes the objects of the model, one class per kind.
class DecoderBuilder {
 public:
  DecoderBuilder(const DecoderSpec& spec, const WeightSource& weights)
      : spec_(spec), weights_(weights) {}

  torch::jit::Module build() {
    const auto embedding = weights_("model.embed_tokens.weight", {spec_.vocabulary, spec_.d_model});
    const auto head =
        spec_.tied_head ? embedding : weights_("lm_head.weight", {spec_.vocabulary, spec_.d_model});
    auto layers = make("Layers", "", [&](Module& module) {
      for (int64_t k = 0; k < spec_.layers(); ++k)
        module.register_module(std::to_string(k), block(k));
    });
    auto model = make("Model", model_script(spec_), [&](Module& module) {
      module.register_module(
          "embed_tokens",
          make("Embedding", embedding_script(spec_.embedding_scale), [&](Module& embed) {
            embed.register_parameter("weight", embedding, false);
            option(embed, "scale", spec_.embedding_scale, 1);
          }));
      module.register_module("layers", layers);
      module.register_module("norm", norm("model.norm", spec_.d_model));
      for (size_t i = 0; i < spec_.rotary.size(); ++i)
        module.register_module(
            rotary_name(i), make("RotaryEmbedding", rotary_script(), [&](Module& rotary) {
              rotary.register_buffer("inv_freq", rotary_frequencies(spec_.rotary[i]));
            }));
    });
    return make("Decoder", root_script(spec_), [&](Module& module) {
      module.register_module("model", model);
      module.register_module("lm_head", make("Linear", linear_script(false), [&](Module& linear) {
                               linear.register_parameter("weight", head, false);
                             }));
      option(module, "logit_divisor", spec_.logit_divisor, 1);
      option(module, "logit_cap", spec_.logit_cap, 0);
    });
  }

 private:
  using Module = torch::jit::Module;

  /// An object of the class `kind` with the methods of `script`; `fill` gives it its members. Those
  /// of one kind, script and `members` (the scripts of submodules that vary) share a class.
  template <class Fill>
  Module make(const std::string& kind, const std::string& script, Fill&& fill,
              const std::string& members = "") {
    auto& known = classes_[kind];
    const auto found = known.find(script + members);
    const std::string suffix = known.empty() ? "" : fmt::format("_{}", known.size());
    Module module =
        found == known.end() ? Module("vyx." + kind + suffix, unit_) : Module(unit_, found->second);
    module.register_attribute("training", c10::BoolType::get(), false);
    fill(module);
    if (found == known.end()) {
      if (!script.empty()) module.define(script);
      known.emplace(script + members, module.type());
    }
    return module;
  }

  static void number(Module& module, const char* name, double value) {
    module.register_attribute(name, c10::FloatType::get(), value);
  }
  /// A number that the scripts know only where it is not what it is in most models.
  static void option(Module& module, const char* name, double value, double otherwise) {
    if (value != otherwise) number(module, name, value);
  }
  static void integer(Module& module, const char* name, int64_t value) {
    module.register_attribute(name, c10::IntType::get(), value);
  }

  Module linear(const std::string& path, int64_t out, int64_t in, bool bias) {
    return make(bias ? "BiasedLinear" : "Linear", linear_script(bias), [&](Module& module) {
      module.register_parameter("weight", weights_(path + ".weight", {out, in}), false);
      if (bias) module.register_parameter("bias", weights_(path + ".bias", {out}), false);
    });
  }

  Module norm(const std::string& path, int64_t width) {
    const bool is_rms = spec_.norm == NormKind::rms;
    return make(is_rms ? "RMSNorm" : "LayerNorm", norm_script(spec_.norm), [&](Module& module) {
      module.register_parameter("weight", weights_(path + ".weight", {width}), false);
      if (!is_rms) module.register_parameter("bias", weights_(path + ".bias", {width}), false);
      number(module, "epsilon", spec_.norm_epsilon);
    });
  }

  Module block(int64_t k) {
    const BlockSpec& spec = spec_.blocks[static_cast<size_t>(k)];
    const std::string path = fmt::format("model.layers.{}", k);
    const bool is_after = spec_.norm_placement == NormPlacement::after,
               is_around = spec_.norm_placement == NormPlacement::around;
    return make(
        "Block", block_script(spec_, spec),
        [&](Module& module) {
          const auto add_norm = [&](const char* name) {
            module.register_module(name, norm(fmt::format("{}.{}", path, name), spec_.d_model));
          };
          if (!is_after) add_norm("input_layernorm");
          module.register_module("self_attn", attention(path + ".self_attn", k));
          add_norm("post_attention_layernorm");
          if (is_around) add_norm("pre_feedforward_layernorm");
          module.register_module("mlp", mlp(path + ".mlp"));
          if (is_after || is_around) add_norm("post_feedforward_layernorm");
          option(module, "residual_scale", spec_.residual_scale, 1);
        },
        attention_script(spec_, spec));
  }

  Module attention(const std::string& path, int64_t k) {
    const AttentionSpec& spec = spec_.attention;
    const BlockSpec& block = spec_.blocks[static_cast<size_t>(k)];
    const int64_t queries = spec.heads * spec.head_dim, keys = spec.kv_heads * spec.head_dim;
    return make("Attention", attention_script(spec_, block), [&](Module& module) {
      integer(module, "layer", k);
      integer(module, "heads", spec.heads);
      integer(module, "kv_heads", spec.kv_heads);
      integer(module, "head_dim", spec.head_dim);
      if (block.attention_scale || spec.score_cap != 0)
        number(module, "scale",
               block.attention_scale.value_or(1 / std::sqrt(static_cast<double>(spec.head_dim))));
      option(module, "score_cap", spec.score_cap, 0);
      const auto project = [&](const char* name, int64_t out, int64_t in, bool bias) {
        module.register_module(name, linear(fmt::format("{}.{}", path, name), out, in, bias));
      };
      project("q_proj", queries, spec_.d_model, spec.input_bias);
      project("k_proj", keys, spec_.d_model, spec.input_bias);
      project("v_proj", keys, spec_.d_model, spec.input_bias);
      project("o_proj", spec_.d_model, queries, spec.output_bias);
      if (spec.query_key_norm == QueryKeyNorm::none) return;
      const bool is_whole = spec.query_key_norm == QueryKeyNorm::whole;
      module.register_module("q_norm", norm(path + ".q_norm", is_whole ? queries : spec.head_dim));
      module.register_module("k_norm", norm(path + ".k_norm", is_whole ? keys : spec.head_dim));
    });
  }

  Module mlp(const std::string& path) {
    const MlpSpec& spec = spec_.mlp;
    return make("MLP", mlp_script(spec), [&](Module& module) {
      const auto project = [&](const char* name, int64_t out, int64_t in) {
        module.register_module(name, linear(fmt::format("{}.{}", path, name), out, in, spec.bias));
      };
      if (spec.gated) project("gate_proj", spec.width, spec_.d_model);
      project("up_proj", spec.width, spec_.d_model);
      project("down_proj", spec_.d_model, spec.width);
    });
  }

  const DecoderSpec& spec_;
  const WeightSource& weights_;
  std::shared_ptr<torch::jit::CompilationUnit> unit_ =
      std::make_shared<torch::jit::CompilationUnit>();
  std::map<std::string, std::map<std::string, c10::ClassTypePtr>> classes_;  // by kind, by script
};

}  // namespace

torch::jit::Module make_decoder(const DecoderSpec& spec, const WeightSource& weights) {
  validate(spec, "decoder");
  return DecoderBuilder(spec, weights).build();
}

std::vector<Parameter> parameters_of(const DecoderSpec& spec) {
  std::vector<Parameter> parameters;
  make_decoder(spec, [&](const std::string& name, at::IntArrayRef shape) {
    parameters.push_back({name, shape.vec()});
    return at::empty({0});
  });
  return parameters;
}

at::Tensor rotary_frequencies(const RotarySpec& spec) {
  const at::Tensor exponents =
      at::arange(0, spec.width, 2, at::kFloat) / static_cast<double>(spec.width);
  at::Tensor frequencies = at::pow(spec.base, exponents).reciprocal();  // [width / 2]
  if (spec.linear_factor != 1) frequencies = frequencies / spec.linear_factor;
  if (const auto& scaling = spec.llama3) {
    // How far a wave is from low_factor to high_factor waves per original context: 0 to 1.
    const at::Tensor waves =
        frequencies * (static_cast<double>(scaling->original_context) / (2 * std::numbers::pi));
    const at::Tensor kept =
        ((waves - scaling->low_factor) / (scaling->high_factor - scaling->low_factor)).clamp(0, 1);
    frequencies = frequencies * kept + frequencies / scaling->factor * (1 - kept);
  }
  return frequencies;
}

}  // namespace vyx::models
