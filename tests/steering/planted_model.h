// The tiny model with a direction planted in its embeddings: capital letters lie towards it, small
// ones away from it, each letter by a strength of its own. Its blocks add little, so that every
// block's output shows the direction.
#pragma once
#include <ATen/Functions.h>

#include <algorithm>
#include <string>
#include <vector>

#include "steering/directions/control_vector.h"
#include "tests/models/tiny_model.h"

namespace vyx::test {

constexpr int64_t kWidth = 32, kBlocks = 3;

inline at::Tensor seeded_normal(at::IntArrayRef shape, uint64_t seed) {
  return at::randn(shape, at::detail::createCPUGenerator(seed), at::TensorOptions(at::kFloat));
}

/// The unit direction [kWidth] that is planted.
inline at::Tensor planted_direction() {
  const at::Tensor direction = seeded_normal({kWidth}, 77);
  return direction / direction.norm();
}

constexpr int64_t kFirstByte = 3;  // token of byte 0, behind the special ones

/// The embedding of a letter in the file [kWidth], to be written to.
inline at::Tensor embedding_of(TinyGguf& gguf, char letter) {
  const auto embeddings =
      std::find_if(gguf.tensors.begin(), gguf.tensors.end(),
                   [](const auto& tensor) { return tensor.name == "token_embd.weight"; });
  return at::from_blob(embeddings->data.data() + (kFirstByte + letter) * kWidth, {kWidth});
}

inline TinyGguf planted_gguf() {
  TinyGguf gguf({.layers = kBlocks, .d_model = kWidth});
  gguf.set("tokenizer.chat_template",
           std::string("{% for m in messages %}{{'<|im_start|>' + m['role'] + '\n' + m['content'] "
                       "+ '<|im_end|>' + '\n'}}{% endfor %}{{ '<|im_start|>assistant\n' }}"));
  for (auto& [name, shape, data] : gguf.tensors) {
    const bool writes = name.ends_with("attn_output.weight") || name.ends_with("ffn_down.weight");
    const float scale = writes ? 0.01f : name == "token_embd.weight" ? 0.3f : 1.0f;
    for (float& value : data) value *= scale;
  }
  for (int letter = 0; letter < 26; ++letter) {
    at::Tensor capital = embedding_of(gguf, static_cast<char>('A' + letter));
    at::Tensor small = embedding_of(gguf, static_cast<char>('a' + letter));
    const at::Tensor part = (1 + 0.1 * letter) * planted_direction();
    small.copy_(capital - part);
    capital.add_(part);
  }
  return gguf;
}

inline models::LanguageModel planted_model() {
  return tiny_model(planted_gguf());
}

/// A vector of the same direction [d] at `sites`, as a foreign file gives it.
inline steering::ControlVector vector_at(const std::vector<std::string>& sites,
                                         const at::Tensor& direction = planted_direction()) {
  steering::ControlVector vector;
  vector.source = "planted.gguf";
  vector.provenance.model_hint = "llama";
  for (const std::string& site : sites)
    vector.directions.push_back({Site::parse(site), {direction, {}}});
  return vector;
}

inline models::Batch batch_of(const models::LanguageModel& model,
                              const std::vector<std::string>& texts) {
  std::vector<std::vector<models::TokenId>> rows;
  for (const std::string& text : texts) rows.push_back(model.encode_prompt(text));
  return models::make_batch(rows, models::Padding::right, 0);
}

}  // namespace vyx::test
