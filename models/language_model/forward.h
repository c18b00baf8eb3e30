// A forward of a language model as a value: what goes in, behind which cache, and the call of
// TorchScript that it becomes.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "core/hooks/hooked_module.h"
#include "core/hooks/token_mask.h"

namespace vyx::models {

/// Keys and values of the tokens so far, with room for more. A forward writes behind `length`, and
/// `length` grows when it has succeeded: after an exception the cache is what it was.
struct KvCache {
  std::vector<at::Tensor> keys, values;  // per block: [batch, kv_heads, capacity, head_dim]
  at::Tensor real;                       // [batch, length] bool; undefined: no token is padding
  int64_t length = 0;                    // tokens held, padding included
  int64_t capacity = 0;
  int64_t batch = 0;

  // The blocks that have keys of all tokens. A forward that reads another block's is an error.
  int64_t from_block = 0;     // above 0 after a forward from a later block on
  bool to_last_block = true;  // false after a harvest, which stops after the last hooked site
};

/// The cache's rows, each `times` times in a row, with room for `capacity` tokens.
KvCache repeat_rows(const KvCache& cache, int64_t times, int64_t capacity);

/// What goes through the model. One of `ids` and `hidden` is given, at most one of `real` and
/// `segments`.
struct Forward {
  at::Tensor ids;          // [batch, seq] int64
  at::Tensor hidden;       // [batch, seq, d_model]: what enters block `from_block`
  int64_t from_block = 0;  // above 0 with `hidden` only
  at::Tensor real;         // [batch, seq] bool; undefined: no token is padding
  /// [batch, seq] int64, without a cache: the number of each token's document in its row, from 1,
  /// and 0 for padding. Documents neither see each other nor count each other's positions.
  at::Tensor segments;
  KvCache* cache = nullptr;  // the tokens stand behind those in it, and are added to it
  bool generated = false;    // the tokens are the model's own (Positions::generated)
};

/// A forward as a call of the model's TorchScript, and the mask that its hooks are to see.
struct ForwardCall {
  std::string method;
  Arguments arguments;
  TokenMask tokens;
};

/// What enters a block, for tokens that are run again and again while nothing before the block is
/// hooked. The first run fills `hidden`, the others begin with it.
struct BlockInput {
  int64_t block = 0;
  at::Tensor hidden;  // [batch, seq, d_model]; undefined before the first run
};

}  // namespace vyx::models
