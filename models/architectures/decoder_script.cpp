#include "models/architectures/decoder_script.h"

#include <fmt/format.h>

#include <set>

namespace vyx::models {
namespace {

/// What a block takes beside its hidden state [batch, seq, d_model]: cos, sin [batch or 1, seq, 1,
/// width] where it turns positions; bias [batch or 1, 1, seq, past + seq], None: causal.
std::string block_parameters(const BlockSpec& block) {
  return fmt::format(R"(hidden: Tensor, {}bias: Optional[Tensor],
            keys: List[Tensor], values: List[Tensor], past: int)",
                     block.rotary == BlockSpec::kNoRotary ? "" : "cos: Tensor, sin: Tensor, ");
}

std::string block_arguments(const BlockSpec& block) {
  return fmt::format("{}bias, keys, values, past",
                     block.rotary == BlockSpec::kNoRotary ? "" : "cos, sin, ");
}

constexpr const char* kProjections = R"(
    batch, seq = hidden.size(0), hidden.size(1)
    q = self.q_proj.forward(hidden)
    k = self.k_proj.forward(hidden)
    v = self.v_proj.forward(hidden)
    v = v.view(batch, seq, self.kv_heads, self.head_dim).transpose(1, 2))";

constexpr const char* kWholeNorm = R"(
    q = self.q_norm.forward(q)
    k = self.k_norm.forward(k))";

constexpr const char* kHeadNorm = R"(
    q = self.q_norm.forward(q.view(batch, seq, self.heads, self.head_dim)).flatten(2)
    k = self.k_norm.forward(k.view(batch, seq, self.kv_heads, self.head_dim)).flatten(2))";

constexpr const char* kHeads = R"(
    qk = torch.cat([q, k], -1).view(batch, seq, self.heads + self.kv_heads, self.head_dim))";

constexpr const char* kTurn = R"(
    half = self.head_dim // 2
    swapped = torch.cat([qk.narrow(3, half, half), qk.narrow(3, 0, half)], -1)
    qk = torch.addcmul(qk * cos, swapped, sin))";

constexpr const char* kTurnPart = R"(
    width = cos.size(3)
    half = width // 2
    part = qk.narrow(3, 0, width)
    swapped = torch.cat([qk.narrow(3, half, half), qk.narrow(3, 0, half)], -1)
    turned = torch.addcmul(part * cos, swapped, sin)
    qk = torch.cat([turned, qk.narrow(3, width, self.head_dim - width)], -1))";

constexpr const char* kCache = R"(
    qk = qk.transpose(1, 2)
    q = qk.narrow(1, 0, self.heads)
    k = qk.narrow(1, self.heads, self.kv_heads)
    if len(keys) > 0:
        keys[self.layer].narrow(2, past, seq).copy_(k)
        values[self.layer].narrow(2, past, seq).copy_(v)
        k = keys[self.layer].narrow(2, 0, past + seq)
        v = values[self.layer].narrow(2, 0, past + seq))";

// For one token the heads that share a key head are rows of one query matrix, which needs no copies
// of keys.
constexpr const char* kFusedScores = R"(
    if seq == 1:
        rows = q.reshape(batch, self.kv_heads, self.heads // self.kv_heads, self.head_dim)
        y = torch.scaled_dot_product_attention(rows, k, v, bias{0})
        return self.o_proj.forward(y.reshape(batch, 1, self.heads * self.head_dim))
    y = torch.scaled_dot_product_attention(
        q, k, v, bias, 0.0, bias is None{0}, enable_gqa=self.heads != self.kv_heads))";

constexpr const char* kCappedScores = R"(
    if self.heads != self.kv_heads:
        k = k.repeat_interleave(self.heads // self.kv_heads, 1)
        v = v.repeat_interleave(self.heads // self.kv_heads, 1)
    scores = torch.matmul(q, k.transpose(2, 3)) * self.scale
    scores = torch.tanh(scores / self.score_cap) * self.score_cap
    if bias is not None:
        scores = scores + bias
    elif seq > 1:
        later = torch.ones([seq, seq], dtype=11, device=scores.device).triu(1)
        scores = scores.masked_fill(later, float("-inf"))
    y = torch.matmul(torch.softmax(scores, -1, 6).to(v.dtype), v))";

constexpr const char* kOutput = R"(
    return self.o_proj.forward(y.transpose(1, 2).reshape(batch, seq, self.heads * self.head_dim))
)";

// A mask says which tokens are real; segments have the number of each token's document, 0 at
// padding. Tokens see their own segment alone, and positions begin anew in each. Positions count
// real tokens only, so that padding on either side changes nothing. A padding token sees itself:
// with nothing to see its softmax would be NaN. Without padding no bias is needed for a prompt
// (causal) or one token (sees all), unless a window ends before them.
constexpr const char* kMasks = R"(
def real_tokens(self, attention_mask: Optional[Tensor],
                segments: Optional[Tensor]) -> Optional[Tensor]:
    if segments is not None:
        assert attention_mask is None, "found attention_mask and segments, expected one of them"
        return segments != 0
    if attention_mask is None:
        return None
    if attention_mask.dtype != 11:
        assert not bool((attention_mask > 1).any()), \
            "found attention_mask above 1, expected 0 and 1; number documents in segments"
    return attention_mask.to(11)

def positions(self, hidden: Tensor, real: Optional[Tensor], segments: Optional[Tensor],
              past: int) -> Tensor:
    end = past + hidden.size(1)
    if segments is not None:
        place = torch.arange(0, end, device=hidden.device)
        before = torch.cat([segments.narrow(1, 0, 1), segments.narrow(1, 0, end - 1)], -1)
        return place - (place * (segments != before)).cummax(-1)[0]
    if real is not None:
        return (real.to(4).cumsum(-1) - 1).clamp_min(0)
    return torch.arange(0, end, device=hidden.device).unsqueeze(0)

def attention_bias(self, hidden: Tensor, real: Optional[Tensor], segments: Optional[Tensor],
                   positions: Tensor, past: int, window: int) -> Optional[Tensor]:
    seq = hidden.size(1)
    windowed = window > 0 and past + seq > window
    if real is None and not windowed and (past == 0 or seq == 1):
        return None
    seen = torch.ones([seq, past + seq], dtype=11, device=hidden.device).tril(past)
    if windowed:
        age = positions.narrow(1, past, seq).unsqueeze(2) - positions.unsqueeze(1)
        seen = torch.logical_and(seen, age < window)
    if real is not None:
        itself = torch.eye(past + seq, dtype=11, device=hidden.device).narrow(0, past, seq)
        visible = real.unsqueeze(1)
        if segments is not None:
            own = segments.unsqueeze(1) == segments.narrow(1, past, seq).unsqueeze(2)
            visible = torch.logical_and(visible, own)
        seen = torch.logical_or(torch.logical_and(seen, visible), itself)
    if seen.dim() == 3:
        seen = seen.unsqueeze(1)
    bias = torch.zeros([1], dtype=hidden.dtype, device=hidden.device).expand(seen.shape)
    return bias.masked_fill(torch.logical_not(seen), float("-inf"))

def forward(self, ids: Tensor, attention_mask: Optional[Tensor], keys: List[Tensor],
            values: List[Tensor], past: int, segments: Optional[Tensor]) -> Tensor:
    hidden = self.embed_tokens.forward(ids)
    return self.resume(hidden, 0, attention_mask, keys, values, past, segments)

def resume(self, hidden: Tensor, block: int, attention_mask: Optional[Tensor],
           keys: List[Tensor], values: List[Tensor], past: int,
           segments: Optional[Tensor]) -> Tensor:
    real = self.real_tokens(attention_mask, segments)
    places = self.positions(hidden, real, segments, past)
    positions = places.narrow(1, past, hidden.size(1)))";

constexpr const char* kRoot = R"(
def hidden(self, input_ids: Tensor, attention_mask: Optional[Tensor], keys: List[Tensor],
           values: List[Tensor], past: int, segments: Optional[Tensor] = None) -> Tensor:
    return self.model.forward(input_ids, attention_mask, keys, values, past, segments)

def resume(self, hidden: Tensor, block: int, attention_mask: Optional[Tensor],
           keys: List[Tensor], values: List[Tensor], past: int,
           segments: Optional[Tensor] = None) -> Tensor:
    return self.model.resume(hidden, block, attention_mask, keys, values, past, segments)

def logits(self, hidden: Tensor) -> Tensor:
    logits = self.lm_head.forward(hidden){}
    return logits

def forward(self, input_ids: Tensor, attention_mask: Optional[Tensor] = None,
            segments: Optional[Tensor] = None) -> Tensor:
    none: List[Tensor] = []
    return self.logits(self.hidden(input_ids, attention_mask, none, none, 0, segments))
)";

const char* activation_call(Activation activation) {
  switch (activation) {
    case Activation::silu:
      return "torch.silu(x)";
    case Activation::gelu:
      return "torch.gelu(x)";
    case Activation::gelu_tanh:
      return "torch.gelu(x, approximate=\"tanh\")";
  }
  return "";
}

}  // namespace

std::string rotary_name(size_t kind) {
  return kind == 0 ? "rotary_emb" : fmt::format("rotary_emb_{}", kind);
}

std::string embedding_script(double scale) {
  return fmt::format(R"(
def forward(self, ids: Tensor) -> Tensor:
    return torch.embedding(self.weight, ids){}
)",
                     scale == 1 ? "" : " * self.scale");
}

std::string norm_script(NormKind kind) {
  return fmt::format(R"(
def forward(self, hidden: Tensor) -> Tensor:
    return torch.{}, self.epsilon)
)",
                     kind == NormKind::rms
                         ? "rms_norm(hidden, [hidden.size(-1)], self.weight"
                         : "layer_norm(hidden, [hidden.size(-1)], self.weight, self.bias");
}

std::string linear_script(bool bias) {
  return fmt::format(R"(
def forward(self, x: Tensor) -> Tensor:
    return torch.linear(x, self.weight{})
)",
                     bias ? ", self.bias" : "");
}

// Cosines and sines of the rotation, once per forward. The sines' first half is negated, so that
// rotating is x·cos + swap(x)·sin with the halves of a head swapped.
std::string rotary_script() {
  return R"(
def forward(self, positions: Tensor, dtype: int) -> Tuple[Tensor, Tensor]:
    angles = (positions.unsqueeze(-1).to(6) * self.inv_freq).unsqueeze(2)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([cos, cos], -1).to(dtype), torch.cat([-sin, sin], -1).to(dtype)
)";
}

std::string attention_script(const DecoderSpec& spec, const BlockSpec& block) {
  const AttentionSpec& attention = spec.attention;
  std::string script = fmt::format("\ndef forward(self, {}) -> Tensor:", block_parameters(block));
  script += kProjections;
  if (attention.query_key_norm == QueryKeyNorm::whole) script += kWholeNorm;
  if (attention.query_key_norm == QueryKeyNorm::per_head) script += kHeadNorm;
  script += kHeads;
  if (block.rotary != BlockSpec::kNoRotary) {
    const int64_t width = spec.rotary[static_cast<size_t>(block.rotary)].width;
    script += width == attention.head_dim ? kTurn : kTurnPart;
  }
  script += kCache;
  if (attention.score_cap != 0) {
    script += kCappedScores;
  } else {
    script += fmt::format(kFusedScores, block.attention_scale ? ", scale=self.scale" : "");
  }
  return script + kOutput;
}

std::string mlp_script(const MlpSpec& spec) {
  const char* const activated = activation_call(spec.activation);
  if (spec.gated)
    return fmt::format(R"(
def forward(self, hidden: Tensor) -> Tensor:
    x = self.gate_proj.forward(hidden)
    return self.down_proj.forward({} * self.up_proj.forward(hidden))
)",
                       activated);
  return fmt::format(R"(
def forward(self, hidden: Tensor) -> Tensor:
    x = self.up_proj.forward(hidden)
    return self.down_proj.forward({})
)",
                     activated);
}

std::string block_script(const DecoderSpec& spec, const BlockSpec& block) {
  const auto branch = [&](const char* norm, const std::string& call, const char* norm_after) {
    std::string lines = "\n    x = hidden";
    if (*norm) lines = fmt::format("\n    x = self.{}.forward(hidden)", norm);
    lines += fmt::format("\n    x = self.{}", call);
    if (*norm_after) lines += fmt::format("\n    x = self.{}.forward(x)", norm_after);
    return lines;
  };
  const char* const add =
      spec.residual_scale == 1 ? "hidden + x" : "hidden + x * self.residual_scale";
  const std::string attention = fmt::format("self_attn.forward(x, {})", block_arguments(block));
  const std::string mlp = "mlp.forward(x)";

  std::string script = fmt::format("\ndef forward(self, {}) -> Tensor:", block_parameters(block));
  if (spec.norm_placement == NormPlacement::parallel) {
    script += branch("input_layernorm", attention, "");
    script += "\n    attended = x";
    script += branch("post_attention_layernorm", mlp, "");
    script += "\n    x = attended + x";
    return script + fmt::format("\n    return {}\n", add);
  }
  const bool before = spec.norm_placement == NormPlacement::before,
             after = spec.norm_placement == NormPlacement::after;
  script +=
      branch(after ? "" : "input_layernorm", attention, before ? "" : "post_attention_layernorm");
  script += fmt::format("\n    hidden = {}", add);
  script += branch(before  ? "post_attention_layernorm"
                   : after ? ""
                           : "pre_feedforward_layernorm",
                   mlp, before ? "" : "post_feedforward_layernorm");
  return script + fmt::format("\n    return {}\n", add);
}

std::string model_script(const DecoderSpec& spec) {
  std::string script = kMasks;
  for (size_t i = 0; i < spec.rotary.size(); ++i)
    script += fmt::format("\n    cos{0}, sin{0} = self.{1}.forward(positions, hidden.dtype)", i,
                          rotary_name(i));
  std::set<int64_t> windows;
  for (const BlockSpec& block : spec.blocks) windows.insert(block.window);
  for (const int64_t window : windows)
    script += fmt::format(
        "\n    bias{0} = self.attention_bias(hidden, real, segments, places, past, {0})", window);
  // Two lines per block: TorchScript cannot loop over submodules of several classes.
  for (int64_t k = 0; k < spec.layers(); ++k) {
    const BlockSpec& block = spec.blocks[static_cast<size_t>(k)];
    const std::string turn =
        block.rotary == BlockSpec::kNoRotary ? "" : fmt::format("cos{0}, sin{0}, ", block.rotary);
    script += fmt::format(R"(
    if block <= {0}:
        hidden = getattr(self.layers, "{0}").forward(
            hidden, {1}bias{2}, keys, values, past))",
                          k, turn, block.window);
  }
  return script + "\n    return self.norm.forward(hidden)\n";
}

std::string root_script(const DecoderSpec& spec) {
  std::string scaling;
  if (spec.logit_divisor != 1) scaling += "\n    logits = logits / self.logit_divisor";
  if (spec.logit_cap != 0)
    scaling += "\n    logits = torch.tanh(logits / self.logit_cap) * self.logit_cap";
  return fmt::format(kRoot, scaling);
}

}  // namespace vyx::models
