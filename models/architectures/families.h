// The families of models that vyx knows, in one table: how each says what it computes, and how it
// names its tensors.
#pragma once
#include <span>
#include <string>
#include <string_view>

#include "core/formats/gguf.h"
#include "models/architectures/decoder_spec.h"
#include "models/architectures/gguf_keys.h"

namespace vyx::models {

/// What a file's tensor needs before it is Hugging Face's.
enum class Transform {
  none,
  /// Rows of query or key heads stand in pairs, number i beside i + half of its head: Hugging Face
  /// has the first halves of all pairs, then the second.
  unpair_queries,
  unpair_keys,
};

/// A tensor's names without ".weight" or ".bias"; those of a block without the block's path.
struct TensorName {
  std::string_view name;  // Hugging Face's: "self_attn.q_proj"
  std::string_view gguf;  // "attn_q"
  Transform transform = Transform::none;
};

struct Family {
  std::string_view name;  // its general.architecture in GGUF, and model_type in config.json

  /// All of the spec but the vocabulary, which the embedding says. Throws Error naming the key for
  /// what is missing, impossible, or not computed by vyx.
  DecoderSpec (*read_gguf)(const GgufKeys& keys);
  std::span<const TensorName> tensors;        // without a block
  std::span<const TensorName> block_tensors;  // `model.layers.k.` + name, `blk.k.` + gguf
};

std::span<const Family* const> families();

/// The family of a GGUF file. Throws Error naming the architecture when vyx has none.
const Family& family_of(const Gguf& gguf);

/// The name of a parameter ("model.layers.0.self_attn.q_proj.weight") in the family's GGUF files
/// ("blk.0.attn_q.weight"), and its transform.
struct GgufName {
  std::string name;
  Transform transform = Transform::none;
};
GgufName gguf_name(const Family& family, const std::string& parameter);

// One file each:
extern const Family kLlama;

}  // namespace vyx::models
