// A language model: one .pt archive with TorchScript, config and tokenizer, run with hooks and a
// key-value cache.
//
// The TorchScript in the archive has these methods, which every architecture of ours defines
// (README.md of models/):
//   forward(input_ids [batch, seq], attention_mask: Optional [batch, seq] = None,
//           segments: Optional [batch, seq] = None) -> logits [batch, seq, vocabulary]
//   hidden(input_ids [batch, seq], attention_mask: Optional [batch, past + seq],
//          keys, values: List[Tensor], past: int,
//          segments: Optional [batch, past + seq] = None) -> [batch, seq, d_model]
//   resume(hidden [batch, seq, d_model], block: int, attention_mask, keys, values, past, segments):
//          what hidden() does from a block on; may be missing
//   logits(hidden [.., d_model]) -> [.., vocabulary]
// keys and values hold one [batch, kv_heads, capacity, head_dim] per block, written in place at
// past … past + seq. Forward (forward.h) says what the arguments mean.
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
#include "models/language_model/forward.h"
#include "models/language_model/language_model_config.h"
#include "models/tokenizer/chat_format.h"
#include "models/tokenizer/tokenizer.h"

namespace vyx::models {

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
    return static_cast<TokenId>(config_.tokens.pad < 0 ? 0 : config_.tokens.pad);
  }

  /// The site of block k's output: "model.layers.k:output".
  Site block_output(int64_t block) const;
  /// The block that `site` is in or of; 0 for sites outside of blocks. What stands before it does
  /// not depend on edits at the site.
  int64_t block_of(const Site& site) const;
  /// Tokens of a prompt, in which "<|im_end|>" is that token. With `chat`, of a chat of one user
  /// message, as encode_chat.
  std::vector<TokenId> encode_prompt(std::string_view text, bool chat = false) const;
  /// Tokens of a chat in the model's own format, up to where the model answers. In the messages
  /// "<|im_end|>" is plain characters, which end no turn, unless `special_in_text`. Throws Error
  /// when the model has no format that vyx knows.
  std::vector<TokenId> encode_chat(std::span<const ChatMessage> messages,
                                   bool special_in_text = false) const;
  /// Throws Error unless `tokens`, and `more` behind them, are within the context length. `what`
  /// names them: "pairs.jsonl:2". Each run checks its tokens; who has read them from a file checks
  /// first, and can say where they stand.
  void require_context(int64_t tokens, int64_t more, std::string_view what) const;

  /// Logits at every position, without a cache: [batch, seq, vocabulary] in float32.
  at::Tensor logits(const Batch& batch);
  /// The same without what is hooked.
  at::Tensor unhooked_logits(const Batch& batch);
  /// Log-probability of every token given those before it: [batch, seq − 1] float32; 0 at padding.
  at::Tensor token_log_probabilities(const Batch& batch);

  /// Runs a forward. Returns the last block's normalised output [batch, seq, d_model]. Throws Error
  /// for a cache that is too small, of another batch, or without keys of a block that is to run.
  at::Tensor run(const Forward& forward);
  /// As run(), for the hooks alone: stops after the last hooked site. A cache is then good for
  /// further harvests of the same sites alone.
  void harvest(const Forward& forward);
  /// What run() calls: nothing runs and the cache is as it was. For those who run module()
  /// themselves, inside a TokenMaskScope of `tokens` and a ForwardScope or with gradients.
  ForwardCall call(const Forward& forward) const;
  /// Whether a forward may begin with `hidden`. Archives of other programs may lack resume().
  bool can_resume() const;

  KvCache make_cache(int64_t batch, int64_t capacity) const;
  /// Runs the batch's tokens behind those in the cache; `generated` as Forward::generated.
  at::Tensor extend(KvCache& cache, const Batch& batch, bool generated = false);
  /// As extend(), where nothing before block `input.block` is hooked: what enters that block is
  /// computed once. From the second run on, the cache has no keys of earlier blocks. A model
  /// without resume() runs whole each time.
  at::Tensor extend_from(BlockInput& input, KvCache& cache, const Batch& batch,
                         bool generated = false);
  /// Logits of hidden states: [.., vocabulary] in float32.
  at::Tensor head(const at::Tensor& hidden);

 private:
  std::vector<TokenId> with_begin(std::vector<TokenId> tokens) const;
  void require_context(const Forward& forward, int64_t past, const at::Tensor& real) const;
  struct Prepared;
  Prepared prepare(const Forward& forward, bool harvest) const;

  torch::jit::Module unhooked_;  // as it was loaded; shares its tensors with module_
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
