#include "models/architectures/llama.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <torch/csrc/jit/api/compilation_unit.h>

#include <map>
#include <memory>
#include <utility>

namespace vyx::models {
namespace {

// Every class calls its submodules with `.forward(…)`, so that each of them is a site. Numbers as
// dtypes are TorchScript's own: 4 int64, 6 float32, 11 bool.

constexpr const char* kEmbedding = R"(
def forward(self, ids: Tensor) -> Tensor:
    return torch.embedding(self.weight, ids)
)";

constexpr const char* kRmsNorm = R"(
def forward(self, hidden: Tensor) -> Tensor:
    return torch.rms_norm(hidden, [hidden.size(-1)], self.weight, self.epsilon)
)";

constexpr const char* kLinear = R"(
def forward(self, x: Tensor) -> Tensor:
    return torch.linear(x, self.weight)
)";

// Cosines and sines of the rotation, once a forward. The sines' first half is negated, so that
// rotating is x·cos + swap(x)·sin with the halves of a head swapped.
constexpr const char* kRotaryEmbedding = R"(
def forward(self, positions: Tensor, dtype: int) -> Tuple[Tensor, Tensor]:
    angles = (positions.unsqueeze(-1).to(6) * self.inv_freq).unsqueeze(2)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([cos, cos], -1).to(dtype), torch.cat([-sin, sin], -1).to(dtype)
)";

// hidden [batch, seq, d_model]; cos, sin [batch or 1, seq, 1, head_dim]; bias [batch or 1, 1, seq,
// past + seq], None: causal. For one token the heads that share a key head are rows of one query
// matrix, which needs no copies of keys.
constexpr const char* kAttention = R"(
def forward(self, hidden: Tensor, cos: Tensor, sin: Tensor, bias: Optional[Tensor], keys: List[Tensor], values: List[Tensor], past: int) -> Tensor:
    batch, seq = hidden.size(0), hidden.size(1)
    q = self.q_proj.forward(hidden)
    k = self.k_proj.forward(hidden)
    v = self.v_proj.forward(hidden).view(batch, seq, self.kv_heads, self.head_dim).transpose(1, 2)
    qk = torch.cat([q, k], -1).view(batch, seq, self.heads + self.kv_heads, self.head_dim)
    half = self.head_dim // 2
    swapped = torch.cat([qk.narrow(3, half, half), qk.narrow(3, 0, half)], -1)
    qk = torch.addcmul(qk * cos, swapped, sin).transpose(1, 2)
    q = qk.narrow(1, 0, self.heads)
    k = qk.narrow(1, self.heads, self.kv_heads)
    if len(keys) > 0:
        keys[self.layer].narrow(2, past, seq).copy_(k)
        values[self.layer].narrow(2, past, seq).copy_(v)
        k = keys[self.layer].narrow(2, 0, past + seq)
        v = values[self.layer].narrow(2, 0, past + seq)
    if seq == 1:
        rows = q.reshape(batch, self.kv_heads, self.heads // self.kv_heads, self.head_dim)
        y = torch.scaled_dot_product_attention(rows, k, v, bias)
        return self.o_proj.forward(y.reshape(batch, 1, self.heads * self.head_dim))
    y = torch.scaled_dot_product_attention(q, k, v, bias, 0.0, bias is None, enable_gqa=self.heads != self.kv_heads)
    return self.o_proj.forward(y.transpose(1, 2).reshape(batch, seq, self.heads * self.head_dim))
)";

constexpr const char* kMlp = R"(
def forward(self, hidden: Tensor) -> Tensor:
    return self.down_proj.forward(torch.silu(self.gate_proj.forward(hidden)) * self.up_proj.forward(hidden))
)";

constexpr const char* kBlock = R"(
def forward(self, hidden: Tensor, cos: Tensor, sin: Tensor, bias: Optional[Tensor], keys: List[Tensor], values: List[Tensor], past: int) -> Tensor:
    hidden = hidden + self.self_attn.forward(self.input_layernorm.forward(hidden), cos, sin, bias, keys, values, past)
    return hidden + self.mlp.forward(self.post_attention_layernorm.forward(hidden))
)";

// A mask says which tokens are real; segments have the number of each token's document, 0 at
// padding. Tokens see their own segment alone, and positions begin anew in each. Positions count
// real tokens only, so that padding on either side changes nothing. A padding token sees itself:
// with nothing to see its softmax would be NaN. Without padding no bias is needed for a prompt
// (causal) or one token (sees all).
constexpr const char* kModel = R"(
def real_tokens(self, attention_mask: Optional[Tensor], segments: Optional[Tensor]) -> Optional[Tensor]:
    if segments is not None:
        assert attention_mask is None, "found attention_mask and segments, expected one of them"
        return segments != 0
    if attention_mask is None:
        return None
    if attention_mask.dtype != 11:
        assert not bool((attention_mask > 1).any()), \
            "found attention_mask above 1, expected 0 and 1; number documents in segments"
    return attention_mask.to(11)

def attention_bias(self, hidden: Tensor, real: Optional[Tensor], segments: Optional[Tensor], past: int) -> Optional[Tensor]:
    seq = hidden.size(1)
    if real is None and (past == 0 or seq == 1):
        return None
    seen = torch.ones([seq, past + seq], dtype=11, device=hidden.device).tril(past)
    if real is not None:
        itself = torch.eye(past + seq, dtype=11, device=hidden.device).narrow(0, past, seq)
        visible = real.unsqueeze(1)
        if segments is not None:
            own = segments.unsqueeze(1) == segments.narrow(1, past, seq).unsqueeze(2)
            visible = torch.logical_and(visible, own)
        seen = torch.logical_or(torch.logical_and(seen, visible), itself).unsqueeze(1)
    bias = torch.zeros([1], dtype=hidden.dtype, device=hidden.device).expand(seen.shape)
    return bias.masked_fill(torch.logical_not(seen), float("-inf"))

def positions(self, hidden: Tensor, real: Optional[Tensor], segments: Optional[Tensor], past: int) -> Tensor:
    seq = hidden.size(1)
    end = past + seq
    if segments is not None:
        place = torch.arange(0, end, device=hidden.device)
        before = torch.cat([segments.narrow(1, 0, 1), segments.narrow(1, 0, end - 1)], -1)
        starts = (place * (segments != before)).cummax(-1)[0]
        return (place - starts).narrow(1, past, seq)
    if real is not None:
        return (real.to(4).cumsum(-1) - 1).clamp_min(0).narrow(1, past, seq)
    return torch.arange(past, end, device=hidden.device).unsqueeze(0)

def forward(self, ids: Tensor, attention_mask: Optional[Tensor], keys: List[Tensor], values: List[Tensor], past: int, segments: Optional[Tensor]) -> Tensor:
    hidden = self.embed_tokens.forward(ids)
    return self.resume(hidden, 0, attention_mask, keys, values, past, segments)

def resume(self, hidden: Tensor, block: int, attention_mask: Optional[Tensor], keys: List[Tensor], values: List[Tensor], past: int, segments: Optional[Tensor]) -> Tensor:
    real = self.real_tokens(attention_mask, segments)
    positions = self.positions(hidden, real, segments, past)
    cos, sin = self.rotary_emb.forward(positions, hidden.dtype)
    bias = self.attention_bias(hidden, real, segments, past)
)";  // then two lines a block: a loop over submodules is not to be had here
constexpr const char* kModelBlock = R"(
    if block <= {0}:
        hidden = getattr(self.layers, "{0}").forward(hidden, cos, sin, bias, keys, values, past))";
constexpr const char* kModelEnd = R"(
    return self.norm.forward(hidden)
)";

constexpr const char* kRoot = R"(
def hidden(self, input_ids: Tensor, attention_mask: Optional[Tensor], keys: List[Tensor], values: List[Tensor], past: int, segments: Optional[Tensor] = None) -> Tensor:
    return self.model.forward(input_ids, attention_mask, keys, values, past, segments)

def resume(self, hidden: Tensor, block: int, attention_mask: Optional[Tensor], keys: List[Tensor], values: List[Tensor], past: int, segments: Optional[Tensor] = None) -> Tensor:
    return self.model.resume(hidden, block, attention_mask, keys, values, past, segments)

def logits(self, hidden: Tensor) -> Tensor:
    return self.lm_head.forward(hidden)

def forward(self, input_ids: Tensor, attention_mask: Optional[Tensor] = None, segments: Optional[Tensor] = None) -> Tensor:
    none: List[Tensor] = []
    return self.logits(self.hidden(input_ids, attention_mask, none, none, 0, segments))
)";

/// Makes the objects of the model, one class a kind.
class LlamaBuilder {
 public:
  LlamaBuilder(const LanguageModelConfig& config, const WeightSource& weights)
      : config_(config), weights_(weights) {}

  torch::jit::Module build() {
    const auto embedding = weight("model.embed_tokens", {config_.vocabulary, config_.d_model});
    const auto head = config_.tied_embeddings
                          ? embedding
                          : weight("lm_head", {config_.vocabulary, config_.d_model});

    auto layers = make("Layers", "", [&](auto& module) {
      for (int64_t k = 0; k < config_.layers; ++k)
        module.register_module(std::to_string(k), block(k));
    });
    std::string forward = kModel;
    for (int64_t k = 0; k < config_.layers; ++k) forward += fmt::format(kModelBlock, k);
    forward += kModelEnd;
    auto model = make("Model", forward, [&](auto& module) {
      module.register_module("embed_tokens", make("Embedding", kEmbedding, parameter(embedding)));
      module.register_module("layers", layers);
      module.register_module("norm", norm("model.norm"));
      module.register_module(
          "rotary_emb", make("RotaryEmbedding", kRotaryEmbedding, [&](auto& rotary) {
            const auto exponents = at::arange(0, config_.head_dim, 2, at::kFloat) /
                                   static_cast<double>(config_.head_dim);
            rotary.register_buffer(
                "inv_freq", at::pow(config_.rope_base, exponents).reciprocal());  // [head_dim / 2]
          }));
    });
    return make("LlamaForCausalLM", kRoot, [&](auto& module) {
      module.register_module("model", model);
      module.register_module("lm_head", make("Linear", kLinear, parameter(head)));
    });
  }

 private:
  using Module = torch::jit::Module;

  /// An object of the class `kind`; `fill` gives it its members, which `source` must find in place.
  template <class Fill>
  Module make(const std::string& kind, const std::string& source, Fill&& fill) {
    const auto known = classes_.find(kind);
    Module module =
        known == classes_.end() ? Module("vyx." + kind, unit_) : Module(unit_, known->second);
    module.register_attribute("training", c10::BoolType::get(), false);
    fill(module);
    if (known == classes_.end()) {
      if (!source.empty()) module.define(source);
      classes_.emplace(kind, module.type());
    }
    return module;
  }

  at::Tensor weight(const std::string& path, std::vector<int64_t> shape) {
    return weights_(path + ".weight", shape);
  }

  static auto parameter(at::Tensor weight) {
    return [weight = std::move(weight)](Module& module) {
      module.register_parameter("weight", weight, false);
    };
  }

  Module linear(const std::string& path, int64_t out, int64_t in) {
    return make("Linear", kLinear, parameter(weight(path, {out, in})));
  }

  Module norm(const std::string& path) {
    return make("RMSNorm", kRmsNorm, [&](Module& module) {
      module.register_parameter("weight", weight(path, {config_.d_model}), false);
      module.register_attribute("epsilon", c10::FloatType::get(), config_.norm_epsilon);
    });
  }

  Module block(int64_t k) {
    const std::string path = fmt::format("{}.{}", config_.block_path, k);
    return make("Block", kBlock, [&](Module& module) {
      module.register_module("input_layernorm", norm(path + ".input_layernorm"));
      module.register_module("self_attn", attention(path + ".self_attn", k));
      module.register_module("post_attention_layernorm", norm(path + ".post_attention_layernorm"));
      module.register_module("mlp", mlp(path + ".mlp"));
    });
  }

  Module attention(const std::string& path, int64_t k) {
    const int64_t queries = config_.heads * config_.head_dim,
                  keys = config_.kv_heads * config_.head_dim;
    return make("Attention", kAttention, [&](Module& module) {
      module.register_attribute("layer", c10::IntType::get(), k);
      module.register_attribute("heads", c10::IntType::get(), config_.heads);
      module.register_attribute("kv_heads", c10::IntType::get(), config_.kv_heads);
      module.register_attribute("head_dim", c10::IntType::get(), config_.head_dim);
      module.register_module("q_proj", linear(path + ".q_proj", queries, config_.d_model));
      module.register_module("k_proj", linear(path + ".k_proj", keys, config_.d_model));
      module.register_module("v_proj", linear(path + ".v_proj", keys, config_.d_model));
      module.register_module("o_proj", linear(path + ".o_proj", config_.d_model, queries));
    });
  }

  Module mlp(const std::string& path) {
    return make("MLP", kMlp, [&](Module& module) {
      module.register_module("gate_proj",
                             linear(path + ".gate_proj", config_.d_ff, config_.d_model));
      module.register_module("up_proj", linear(path + ".up_proj", config_.d_ff, config_.d_model));
      module.register_module("down_proj",
                             linear(path + ".down_proj", config_.d_model, config_.d_ff));
    });
  }

  const LanguageModelConfig& config_;
  const WeightSource& weights_;
  std::shared_ptr<torch::jit::CompilationUnit> unit_ =
      std::make_shared<torch::jit::CompilationUnit>();
  std::map<std::string, c10::ClassTypePtr> classes_;
};

}  // namespace

torch::jit::Module make_llama(const LanguageModelConfig& config, const WeightSource& weights) {
  return LlamaBuilder(config, weights).build();
}

}  // namespace vyx::models
