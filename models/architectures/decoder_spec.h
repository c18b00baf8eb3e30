// What differs between the families of decoders that vyx builds, and between the blocks of one: a
// value, which decoder.cpp turns into TorchScript. Whatever stands here is computed there and held
// to a plain computation by tests/models/architectures; what vyx does not compute is no field.
#pragma once
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "core/base/json_guard.h"

namespace vyx::models {

enum class NormKind {
  rms,    // RMSNorm (Zhang & Sennrich 2019, arXiv:1910.07467): weight
  layer,  // LayerNorm: weight and bias
};

/// Where a block has norms N, each with weights of its own; A attention, M its MLP.
enum class NormPlacement {
  before,    // x += A(N(x)); x += M(N(x))
  after,     // x += N(A(x)); x += N(M(x))
  around,    // x += N(A(N(x))); x += N(M(N(x)))
  parallel,  // x += A(N(x)) + M(N(x))
};

/// RMSNorm or LayerNorm of queries and keys, before they are turned.
enum class QueryKeyNorm {
  none,
  per_head,  // over head_dim, one weight [head_dim] for all heads
  whole,     // over all heads side by side
};

enum class Activation { silu, gelu, gelu_tanh };

struct AttentionSpec {
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
  bool input_bias = false, output_bias = false;  // of q_proj, k_proj and v_proj; of o_proj
  QueryKeyNorm query_key_norm = QueryKeyNorm::none;
  double score_cap = 0;  // a score s becomes cap · tanh(s / cap); 0: it stays

  friend bool operator==(const AttentionSpec&, const AttentionSpec&) = default;
};

struct MlpSpec {
  int64_t width = 0;
  bool gated =
      true;  // down(f(gate(x)) · up(x)) (Shazeer 2020, arXiv:2002.05202); else down(f(up(x)))
  Activation activation = Activation::silu;
  bool bias = false;

  friend bool operator==(const MlpSpec&, const MlpSpec&) = default;
};

/// Llama 3.1's rotary frequencies for longer contexts: waves longer than original_context /
/// low_factor are stretched by `factor`, those shorter than original_context / high_factor stay,
/// and what is between them goes over smoothly.
struct Llama3Scaling {
  double factor = 8, low_factor = 1, high_factor = 4;
  int64_t original_context = 8192;  // tokens

  friend bool operator==(const Llama3Scaling&, const Llama3Scaling&) = default;
};

/// A kind of rotary positions (Su et al. 2021, arXiv:2104.09864): the first `width` numbers of a
/// head are turned, number i with number i + width / 2, by position · base^(−2i / width).
struct RotarySpec {
  double base = 10000;
  int64_t width = 0;         // even, at most head_dim
  double linear_factor = 1;  // frequencies are divided by it
  std::optional<Llama3Scaling> llama3;

  friend bool operator==(const RotarySpec&, const RotarySpec&) = default;
};

struct BlockSpec {
  static constexpr int64_t kNoRotary = -1;

  int64_t window = 0;  // a token sees so many tokens, itself among them; 0: all before it
  int64_t rotary = 0;  // which of DecoderSpec::rotary; kNoRotary: positions turn nothing
  std::optional<double> attention_scale;  // of scores; nullopt: head_dim^−½

  friend bool operator==(const BlockSpec&, const BlockSpec&) = default;
};

struct DecoderSpec {
  int64_t d_model = 0, vocabulary = 0;
  std::vector<BlockSpec> blocks;
  NormKind norm = NormKind::rms;
  double norm_epsilon = 1e-5;
  NormPlacement norm_placement = NormPlacement::before;
  AttentionSpec attention;
  MlpSpec mlp;
  std::vector<RotarySpec> rotary;
  bool tied_head = false;  // the head's weight is the embedding's
  double embedding_scale = 1;
  double residual_scale = 1;  // of what attention and MLP add
  double logit_divisor = 1;   // of logits, before the cap
  double logit_cap = 0;       // a logit l becomes cap · tanh(l / cap); 0: it stays

  int64_t layers() const { return static_cast<int64_t>(blocks.size()); }
  friend bool operator==(const DecoderSpec&, const DecoderSpec&) = default;
};

/// Throws Error naming `source` unless the sizes fit each other (heads divide, nothing is zero or
/// absurd).
void validate(const DecoderSpec& spec, std::string_view source);

/// Adds the spec to a config.json, under Hugging Face's names where it has one. What has its
/// default is left out, but for the sizes that every decoder has.
void add_to_json(const DecoderSpec& spec, Json& config);
/// What add_to_json() wrote. Throws Error naming `source` for missing keys and impossible sizes.
DecoderSpec decoder_spec_from_json(const Json& config, std::string_view source);

}  // namespace vyx::models
