// What steering does, in numbers: the shift towards the concept, and the side effect on text that
// has nothing to do with it.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "models/language_model/language_model.h"
#include "steering/directions/contrast_set.h"
#include "steering/effects/likelihood.h"

namespace vyx::steering {

struct Effect {
  double shift = 0;           // nats per token: how much more the model now prefers the positive
                              // continuations (see PreferenceMeter)
  double positive_share = 0;  // of the pairs, those that moved towards the positive side
  double kl_mean = 0;  // nats: mean over the tokens of the neutral text of KL(steered ‖ unsteered)
  double kl_p95 = 0;   // nats: the 95th percentile over those tokens
};

/// A continuation pair as a model's tokens. In the continuations "<|im_end|>" is plain characters.
struct EncodedPair {
  std::vector<models::TokenId> prompt, positive, negative;
};
/// `chat`: the prompt is a user message in the model's chat format.
EncodedPair encode_pair(const models::LanguageModel& model, const ContinuationPair& pair,
                        bool chat);

/// What is hooked in the model now, pair by pair: a pair's preference is the mean log-probability
/// per token of its positive continuation minus that of its negative one, teacher-forced. The
/// continuations are run as if the model had written them, so that an edit of Positions::generated
/// is measured too.
class PreferenceMeter {
 public:
  /// `chat`: the prompts are user messages in the model's chat format. `first_block`: as
  /// ContinuationBatch. Throws Error when there is no pair.
  PreferenceMeter(models::LanguageModel& model, std::span<const ContinuationPair> pairs, bool chat,
                  int64_t first_block = 0);

  std::vector<double> measure();  // nats per token
  /// Of each edit alone at `site`, which is not before `first_block`; null: of nothing. Beside
  /// other hooks of the model. [edits][pairs]. Many edits are run side by side: each gives what it
  /// gives alone but for rounding.
  std::vector<std::vector<double>> measure(const Site& site, std::span<const Edit* const> edits);
  size_t pairs() const { return pairs_; }
  uint64_t tokens() const { return tokens_; }  // that one measurement runs, padding apart
  /// Pairs whose continuations are both of one token, which is predicted from the prompt alone: an
  /// edit of Positions::generated cannot move them.
  size_t single_token_pairs() const { return single_token_pairs_; }

 private:
  struct PairBatch {
    std::vector<size_t> pairs;  // of like length
    at::Tensor lengths;  // tokens of their continuations, positive and negative in turn [2 · pairs]
                         // float64
    ContinuationBatch continuations;
  };
  /// Puts each copy's preferences in their places of results[copy].
  void measure(PairBatch& batch, std::span<std::vector<double>> results);

  models::LanguageModel& model_;
  size_t pairs_ = 0, single_token_pairs_ = 0;
  std::vector<PairBatch> batches_;
  uint64_t tokens_ = 0;
};

/// What steering does to text that has nothing to do with it, token by token, in nats.
struct NeutralEffect {
  at::Tensor kl;          // KL(steered ‖ unsteered) [tokens] float64
  at::Tensor reverse_kl;  // KL(unsteered ‖ steered) [tokens] float64
  // Rise of the cross-entropy of the token that follows [tokens − windows] float64.
  at::Tensor loss_rise;
};

/// `text` in windows of `window` tokens, of which max_tokens are used, without a begin token.
/// Throws Error when there is none.
std::vector<std::vector<models::TokenId>> neutral_windows(const models::LanguageModel& model,
                                                          std::string_view text, int64_t window,
                                                          int64_t max_tokens);

/// Runs each window as a text of its own, behind the model's begin token where it has one, which is
/// not measured. Measures against the model as it is when this is made: make it before steering.
/// Memory is tokens × vocabulary floats up to `kept_bytes`, tokens × d beyond: then the unsteered
/// logits are computed anew, once for all edits that are measured side by side.
class NeutralMeter {
 public:
  static constexpr int64_t kKeptBytes = int64_t{256} << 20;  // 1,365 tokens of 49,152

  /// `first_block`: as ContinuationBatch. Throws Error when there is no window, an empty one, or
  /// one that is longer than the model's context.
  NeutralMeter(models::LanguageModel& model, std::vector<std::vector<models::TokenId>> windows,
               int64_t first_block = 0, int64_t kept_bytes = kKeptBytes);

  /// Of what is hooked in the model now. With a `prefix`, each window stands behind it, and it
  /// behind the begin token: the effect of a prompt. Only the windows count as generated.
  NeutralEffect measure(std::span<const models::TokenId> prefix = {});
  /// As PreferenceMeter: [edits].
  std::vector<NeutralEffect> measure(const Site& site, std::span<const Edit* const> edits);
  const std::vector<std::vector<models::TokenId>>& windows() const { return windows_; }
  uint64_t tokens() const;

 private:
  struct WindowBatch {
    std::vector<size_t> windows;  // of one length
    at::Tensor ids;               // [windows, seq]
    // Of the first block: of the begin token [1, 1, d], and of the windows [windows, seq, d].
    models::BlockInput lead_input, input;
    // Of the unsteered model: the last block's output [windows · seq, d], and the log-probabilities
    // [windows · seq, vocabulary] float32, undefined where they are computed anew.
    at::Tensor hidden, log_probabilities;
  };
  /// Of a batch, the windows first … first + count.
  static WindowBatch part(const WindowBatch& batch, int64_t first, int64_t count);
  /// The last block's output [copies, windows · seq, d].
  at::Tensor hidden(WindowBatch& batch, int64_t copies, std::span<const models::TokenId> prefix);
  /// Puts each copy's effect on each window of the batch in its place of effects[copy].
  void compare(const WindowBatch& batch, const at::Tensor& steered,
               std::span<std::vector<NeutralEffect>> effects);

  models::LanguageModel& model_;
  std::vector<models::TokenId> lead_;  // the begin token, or nothing
  std::vector<std::vector<models::TokenId>> windows_;
  std::vector<WindowBatch> batches_;
};

/// Both, in means: measured against the model as it is when this is made.
class EffectMeter {
 public:
  /// `chat`: as PreferenceMeter. `neutral` is cut into windows of `window` tokens, of which
  /// max_neutral_tokens are used. Throws Error when there is no pair or no neutral text.
  struct Options {
    bool chat = true;
    int64_t window = 128;
    int64_t max_neutral_tokens = 512;
    int64_t first_block = 0;  // nothing before it will be hooked
  };
  EffectMeter(models::LanguageModel& model, std::vector<ContinuationPair> pairs,
              std::string_view neutral, Options options);
  EffectMeter(models::LanguageModel& model, std::vector<ContinuationPair> pairs,
              std::string_view neutral)
      : EffectMeter(model, std::move(pairs), neutral, Options{}) {}

  /// The effect of what is hooked in the model now.
  Effect measure();
  /// Of the unsteered model: mean over the pairs of preference(), nats per token.
  double baseline_preference() const;

  /// PreferenceMeter::measure().
  std::vector<double> preference() { return preferences_.measure(); }
  size_t pairs() const { return preferences_.pairs(); }
  size_t single_token_pairs() const { return preferences_.single_token_pairs(); }
  uint64_t neutral_tokens() const { return neutral_.tokens(); }

 private:
  PreferenceMeter preferences_;
  NeutralMeter neutral_;
  std::vector<double> baseline_;  // preference() of the unsteered model
};

}  // namespace vyx::steering
