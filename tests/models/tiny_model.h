// A tiny random Llama with a vocabulary of bytes, as a GGUF file whose parts a test may spoil, and
// loaded.
#pragma once
#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "core/formats/gguf.h"
#include "models/importers/gguf_importer.h"
#include "models/language_model/language_model.h"
#include "models/tokenizer/byte_level.h"
#include "tests/test_support.h"

namespace vyx::test {

struct TinyModelOptions {
  uint64_t seed = 0;
  bool tied = true;
  uint64_t layers = 3, d_model = 32, d_ff = 64, heads = 4, kv_heads = 2;
};

/// What the file is made of: metadata and float32 tensors.
struct TinyGguf {
  struct Tensor {
    std::string name;
    std::vector<uint64_t> shape;  // the fastest-varying dimension first
    std::vector<float> data;
  };

  GgufMetadata metadata;
  std::vector<Tensor> tensors;

  explicit TinyGguf(const TinyModelOptions& options = {}) {
    const auto u32 = [](uint64_t value) { return GgufValue(static_cast<uint32_t>(value)); };
    std::vector<std::string> tokens = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
    std::vector<int32_t> types(tokens.size(), 3);
    for (int byte = 0; byte < 256; ++byte)
      tokens.push_back(models::to_byte_level(std::string(1, static_cast<char>(byte))));
    tokens.insert(tokens.end(), {"he", "Ġa"});
    types.resize(tokens.size(), 1);
    const uint64_t vocabulary = tokens.size();
    metadata = {{"general.architecture", std::string("llama")},
                {"general.name", std::string("Tiny")},
                {"llama.block_count", u32(options.layers)},
                {"llama.context_length", u32(512)},
                {"llama.embedding_length", u32(options.d_model)},
                {"llama.feed_forward_length", u32(options.d_ff)},
                {"llama.attention.head_count", u32(options.heads)},
                {"llama.attention.head_count_kv", u32(options.kv_heads)},
                {"llama.attention.layer_norm_rms_epsilon", 1e-5f},
                {"llama.rope.freq_base", 10000.0f},
                {"tokenizer.ggml.model", std::string("gpt2")},
                {"tokenizer.ggml.pre", std::string("smollm")},
                {"tokenizer.ggml.tokens", GgufArray(tokens)},
                {"tokenizer.ggml.token_type", GgufArray(types)},
                {"tokenizer.ggml.merges", GgufArray(std::vector<std::string>{"h e", "Ġ a"})},
                {"tokenizer.ggml.bos_token_id", u32(1)},
                {"tokenizer.ggml.eos_token_id", u32(2)},
                {"tokenizer.ggml.padding_token_id", u32(2)}};

    std::mt19937_64 random(options.seed);
    const auto add = [&](const std::string& name, std::vector<uint64_t> shape, double mean,
                         double scale) {
      Tensor tensor{.name = name, .shape = shape, .data = {}};
      uint64_t elements = 1;
      for (const uint64_t size : shape) elements *= size;
      std::normal_distribution<float> normal(static_cast<float>(mean), static_cast<float>(scale));
      for (uint64_t i = 0; i < elements; ++i) tensor.data.push_back(normal(random));
      tensors.push_back(std::move(tensor));
    };
    const uint64_t d = options.d_model, keys = d / options.heads * options.kv_heads;
    add("token_embd.weight", {d, vocabulary}, 0, 1);
    add("output_norm.weight", {d}, 1, 0.1);
    if (!options.tied) add("output.weight", {d, vocabulary}, 0, 0.5);
    for (uint64_t k = 0; k < options.layers; ++k) {
      const std::string block = "blk." + std::to_string(k) + ".";
      add(block + "attn_norm.weight", {d}, 1, 0.1);
      add(block + "attn_q.weight", {d, d}, 0, 0.3);
      add(block + "attn_k.weight", {d, keys}, 0, 0.3);
      add(block + "attn_v.weight", {d, keys}, 0, 0.3);
      add(block + "attn_output.weight", {d, d}, 0, 0.3);
      add(block + "ffn_norm.weight", {d}, 1, 0.1);
      add(block + "ffn_gate.weight", {d, options.d_ff}, 0, 0.3);
      add(block + "ffn_up.weight", {d, options.d_ff}, 0, 0.3);
      add(block + "ffn_down.weight", {options.d_ff, d}, 0, 0.3);
    }
  }

  /// Sets a key, or adds it.
  TinyGguf& set(const std::string& key, GgufValue value) {
    for (auto& [known, old] : metadata) {
      if (known == key) {
        old = std::move(value);
        return *this;
      }
    }
    metadata.emplace_back(key, std::move(value));
    return *this;
  }

  TinyGguf& erase(const std::string& key) {
    std::erase_if(metadata, [&](const auto& entry) { return entry.first == key; });
    return *this;
  }

  void write(const std::filesystem::path& path) const {
    std::vector<GgufTensorData> views;
    for (const Tensor& tensor : tensors)
      views.push_back(
          {tensor.name, tensor.shape, GgmlType::f32, std::as_bytes(std::span(tensor.data))});
    write_gguf(path, metadata, views);
  }
};

/// The model of a TinyGguf, by way of a GGUF file and an archive.
inline models::LanguageModel tiny_model(const TinyGguf& gguf,
                                        const models::ImportOptions& options = {}) {
  const TemporaryFolder folder;
  gguf.write(folder / "tiny.gguf");
  models::import_gguf(folder / "tiny.gguf", folder / "tiny.pt", options);
  return models::LanguageModel::load(folder / "tiny.pt");
}

inline models::LanguageModel tiny_model(const TinyModelOptions& options = {}) {
  return tiny_model(TinyGguf(options));
}

constexpr char kLoud = 'Q';

/// The tiny model with an attention sink's embedding for one letter, kLoud: its activation has many
/// times the others' norm.
inline models::LanguageModel loud_model() {
  TinyGguf gguf;
  for (auto& [name, shape, data] : gguf.tensors) {
    if (name != "token_embd.weight") continue;
    const auto width = static_cast<std::ptrdiff_t>(shape[0]);
    const auto begin = data.begin() + (3 + kLoud) * width;  // the token of byte 0 is 3
    std::transform(begin, begin + width, begin, [](float value) { return 100 * value; });
  }
  return tiny_model(gguf);
}

/// The tokens of each text, in which "<|im_end|>" is that token.
inline std::vector<std::vector<models::TokenId>> rows_of(const models::LanguageModel& model,
                                                         const std::vector<std::string>& texts) {
  std::vector<std::vector<models::TokenId>> rows;
  for (const std::string& text : texts) rows.push_back(model.tokenizer().encode(text));
  return rows;
}

}  // namespace vyx::test
