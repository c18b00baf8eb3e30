// Llama, and what is built like it: SmolLM2, and Mistral without a window.
#include <array>

#include "core/base/error.h"
#include "core/base/text.h"
#include "models/architectures/families.h"

namespace vyx::models {
namespace {

const GgufKeys::Understood& understood() {
  static const GgufKeys::Understood kUnderstood{
      .keys = {"block_count", "context_length", "embedding_length", "feed_forward_length",
               "vocab_size", "rope.freq_base", "rope.dimension_count", "attention.head_count",
               "attention.head_count_kv", "attention.key_length", "attention.value_length",
               "attention.layer_norm_rms_epsilon", "tensor_data_layout",
               // Of how rotary positions were stretched in training, only the scaling's type and
               // factor say how to compute them.
               "rope.scaling.original_context_length", "rope.scaling.finetuned"},
      .neutral = {{"rope.scale_linear", 1},
                  {"rope.scaling.factor", 1},
                  {"rope.scaling.attn_factor", 1},
                  {"expert_count", 0},
                  {"expert_used_count", 0},
                  {"attention.sliding_window", 0},
                  {"logit_scale", 1},
                  {"residual_scale", 1},
                  {"embedding_scale", 1}},
      // Linear scaling is by the factor, which is 1 above.
      .absent = {{"rope.scaling.type", {"none", "linear"}}}};
  return kUnderstood;
}

DecoderSpec read_gguf(const GgufKeys& keys) {
  keys.refuse_others(understood());
  const Gguf& gguf = keys.gguf();
  for (const GgufTensor& tensor : gguf.tensors()) {
    if (tensor.name.starts_with("rope_freqs") || tensor.name.starts_with("rope_factors"))
      fail("{}: found the tensor {}; vyx does not scale this family's rotary positions yet",
           keys.source(), quote(tensor.name));
  }

  DecoderSpec spec;
  spec.blocks.resize(static_cast<size_t>(keys.size("block_count", 4096)));
  spec.d_model = keys.size("embedding_length");
  spec.mlp.width = keys.size("feed_forward_length");
  AttentionSpec& attention = spec.attention;
  attention.heads = keys.size("attention.head_count");
  attention.kv_heads = keys.size_or("attention.head_count_kv", attention.heads);
  spec.norm_epsilon = keys.positive("attention.layer_norm_rms_epsilon");

  if (!keys.has("attention.key_length") && spec.d_model % attention.heads != 0) {
    fail("{}: {} = {} is no multiple of {} = {}", keys.source(), keys.full("embedding_length"),
         spec.d_model, keys.full("attention.head_count"), attention.heads);
  }
  attention.head_dim = keys.size_or("attention.key_length", spec.d_model / attention.heads);
  for (const char* key : {"attention.value_length", "rope.dimension_count"}) {
    if (const int64_t found = keys.size_or(key, attention.head_dim); found != attention.head_dim)
      fail("{}: found {} = {}, expected the head's width of {}; vyx has no other yet",
           keys.source(), keys.full(key), found, attention.head_dim);
  }
  spec.rotary = {{.base = keys.positive_or("rope.freq_base", 10000), .width = attention.head_dim}};
  spec.tied_head = !gguf.find_tensor("output.weight");
  return spec;
}

constexpr std::array kTensors = {TensorName{"model.embed_tokens", "token_embd"},
                                 TensorName{"model.norm", "output_norm"},
                                 TensorName{"lm_head", "output"}};

constexpr std::array kBlockTensors = {
    TensorName{"input_layernorm", "attn_norm"},
    TensorName{"self_attn.q_proj", "attn_q", Transform::unpair_queries},
    TensorName{"self_attn.k_proj", "attn_k", Transform::unpair_keys},
    TensorName{"self_attn.v_proj", "attn_v"},
    TensorName{"self_attn.o_proj", "attn_output"},
    TensorName{"post_attention_layernorm", "ffn_norm"},
    TensorName{"mlp.gate_proj", "ffn_gate"},
    TensorName{"mlp.up_proj", "ffn_up"},
    TensorName{"mlp.down_proj", "ffn_down"}};

}  // namespace

const Family kLlama{
    .name = "llama", .read_gguf = read_gguf, .tensors = kTensors, .block_tensors = kBlockTensors};

}  // namespace vyx::models
