// A language model: one .pt archive with TorchScript, config and tokenizer, run with hooks and a
// key-value cache.
//
// The TorchScript in the archive has these methods, which every architecture of ours defines
// (README.md of this folder):
//   forward(input_ids [batch, seq], attention_mask: Optional [batch, seq] = None) -> logits [batch,
//   seq, vocabulary] hidden(input_ids [batch, seq], attention_mask: Optional [batch, past + seq],
//   keys, values: List[Tensor], past: int)
//     -> [batch, seq, d_model]
//   resume(hidden [batch, seq, d_model], block: int, attention_mask, keys, values, past): what
//   hidden() does from a block on; may be missing logits(hidden [.., d_model]) -> [.., vocabulary]
// keys and values hold one [batch, kv_heads, capacity, head_dim] a block, written in place at past
// … past + seq.
#pragma once
#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/hooks/hooked_module.h"
#include "models/language_model/batch.h"
#include "models/language_model/language_model_config.h"
#include "models/tokenizer/tokenizer.h"

namespace vyx::models {

/// Keys and values of the tokens so far, with room for more.
struct KvCache {
  std::vector<at::Tensor> keys, values;  // a block: [batch, kv_heads, capacity, head_dim]
  at::Tensor mask;     // [batch, capacity] bool, true = real; undefined while no row is padded
  int64_t length = 0;  // tokens held, padding included
  int64_t capacity = 0;
  int64_t batch = 0;
};

class LanguageModel {
 public:
  /// Throws Error for an archive without config or tokenizer, naming what to run instead.
  static LanguageModel load(const std::filesystem::path& path, c10::Device device = c10::kCPU);
  LanguageModel(const torch::jit::Module& module, LanguageModelConfig config, Tokenizer tokenizer);

  const LanguageModelConfig& config() const { return config_; }
  const Tokenizer& tokenizer() const { return tokenizer_; }
  HookedModule& module() { return module_; }
  c10::Device device() const { return device_; }
  /// What stands where a row is padded: any token will do, since nothing sees it.
  TokenId pad_token() const {
    return static_cast<TokenId>(config_.pad_token < 0 ? 0 : config_.pad_token);
  }

  /// The site of block k's output: "model.layers.k:output".
  Site block_output(int64_t block) const;
  /// The block that `site` is in or of; 0 for sites outside of blocks. What stands before it does
  /// not depend on edits at the site.
  int64_t block_of(const Site& site) const;
  /// Tokens of a prompt; with `chat`, of a one-message chat in the model's own format (throws Error
  /// when it has none).
  std::vector<TokenId> encode_prompt(std::string_view text, bool chat = false) const;

  /// Logits at every position, without a cache: [batch, seq, vocabulary] in float32.
  at::Tensor logits(const Batch& batch);
  /// Log-probability of every token given those before it: [batch, seq − 1] float32; 0 at padding.
  at::Tensor token_log_probabilities(const Batch& batch);

  KvCache make_cache(int64_t batch, int64_t capacity) const;
  /// The cache's rows, each `times` times in a row, with room for `capacity` tokens.
  KvCache repeat(const KvCache& cache, int64_t times, int64_t capacity) const;

  /// Runs the batch's tokens behind those in the cache; `generated` says that they are the model's
  /// own (Positions::generated). Returns the last block's normalised output [batch, seq, d_model].
  at::Tensor extend(KvCache& cache, const Batch& batch, bool generated = false);
  /// As extend(), for tokens that are run again and again while nothing before block `block` is
  /// hooked: what enters that block is computed once. `entering` keeps it [batch, seq, d_model]:
  /// undefined, the first run fills it; the others begin with it. The cache then has no keys of
  /// earlier blocks: it is good for further runs from the same block. A model without resume() runs
  /// whole each time.
  at::Tensor extend_from(int64_t block, at::Tensor& entering, KvCache& cache, const Batch& batch,
                         bool generated = false);
  /// As extend(), for the hooks alone: stops after the last hooked site. Blocks behind it have no
  /// keys then, so that the cache is good for further harvests of the same sites and nothing else.
  void harvest(KvCache& cache, const Batch& batch);
  /// Packed rows [batch, seq] int64 without a cache, for the hooks alone. `segments` [batch, seq]
  /// int64 has the number of each token's document in its row, from 1, and 0 for padding: documents
  /// neither see each other nor count each other's positions. Undefined: each row is one document.
  void harvest(const at::Tensor& ids, const at::Tensor& segments);
  /// Logits of hidden states: [.., vocabulary] in float32.
  at::Tensor head(const at::Tensor& hidden);

 private:
  struct Step;
  Step step(KvCache& cache, const Batch& batch, bool generated) const;

  HookedModule module_;
  LanguageModelConfig config_;
  Tokenizer tokenizer_;
  c10::Device device_;
  c10::ScalarType dtype_ = c10::kFloat;  // of weights, activations and cache
};

/// Writes a model as an archive that LanguageModel::load and stock torch.jit.load read.
/// `tokenizer_json` as in tokenizer.h.
void save_language_model(const torch::jit::Module& module, const LanguageModelConfig& config,
                         std::string_view tokenizer_json, const std::filesystem::path& path);

}  // namespace vyx::models
